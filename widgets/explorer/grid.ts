/*! With regular-table, https://github.com/finos/regular-table, Apache-2.0. */
// The table: regular-table draws the visible part; this adds row focus, selection and key bindings.

import "regular-table";
import type { RegularTableElement } from "regular-table";

import { h } from "../shared/dom";
import { keysOf } from "./keys";
import type { Column, Outline } from "./outline";
import type { Query } from "./query";
import type { Row, Rows } from "./rows";

const PAGE = 10; // rows of Page Up and Page Down
const ROW_HEIGHT = 26; // as in explorer.css
const LARGEST = 200; // rows on screen
let instances = 0;

/** A column of the frame, or an extra column of the table. */
type Kind = Column | "why" | "correction";

const isExtra = (kind: Kind | undefined): kind is "why" | "correction" => typeof kind === "string";

export interface GridActions {
  sort(column: string): void;
  select(rows: number[]): void;
  focus(row: Row | undefined): void;
  correct(row: Row, label: string | null): void;
  undo(): void;
  explain(row: Row): void;
}

export class Grid {
  element: HTMLElement;
  #table: RegularTableElement;
  #columns: Kind[];
  #places: Map<Column, number>; // the index of a column in a row's cells
  #keys: Map<string, string>;
  #focused = 0; // place of the row in focus
  #selected = new Set<number>();
  #anchor: number | null = null;
  #query: Query;
  #id = `nbllm-explorer-${++instances}`;
  #drawn = 0;

  constructor(
    private outline: Outline,
    private rows: Rows,
    query: Query,
    private actions: GridActions,
    private fail: (error: Error) => void,
  ) {
    this.#query = query;
    this.#keys = keysOf(outline.choices);
    const frameColumns = outline.columns.flatMap((column): Kind[] =>
      column.role === "answer" && outline.choices.length ? [column, "correction"] : [column],
    );
    this.#columns = ["why", ...frameColumns];
    this.#places = new Map(outline.columns.map((column, place) => [column, place]));
    this.#table = document.createElement("regular-table") as RegularTableElement;
    this.element = h("div", { class: "grid" }, this.#table);
    this.#table.setDataListener((x0, y0, x1, y1) => this.#data(x0, y0, x1, y1) as never);
    this.#table.addStyleListener(() => this.#style());
    this.#table.addEventListener("mousedown", (event) => this.#mouseDown(event));
    this.#table.addEventListener("click", (event) => this.#click(event));
    this.#table.addEventListener("dblclick", (event) => {
      const row = this.#rowOf(event.target as HTMLElement);
      if (row) this.actions.explain(row);
    });
    this.element.addEventListener("keydown", (event) => this.#keyDown(event));
  }

  get body(): HTMLTableElement | null {
    return this.#table.querySelector("table");
  }

  get current(): Row | undefined {
    return this.rows.at(this.#focused);
  }

  async draw() {
    const turn = ++this.#drawn;
    try {
      await this.#table.draw();
    } catch (error) {
      this.fail(error as Error);
      return;
    }
    if (turn === this.#drawn) this.element.dataset.drawn = `${this.rows.total}/${turn}`;
  }

  /** Shows the rows of another query from the top. */
  async reset(query: Query) {
    this.#query = query;
    this.#focused = 0;
    this.#anchor = null;
    this.#table.scrollTop = 0;
    await this.draw();
    this.actions.focus(this.current);
  }

  /** Marks the selected rows. */
  setSelected(rows: number[]) {
    this.#selected = new Set(rows);
    void this.draw();
  }

  async focusPlace(place: number, select = true, extend = false) {
    const last = this.rows.total - 1;
    if (last < 0) return;
    const before = this.#focused;
    this.#focused = Math.min(Math.max(place, 0), last);
    this.#reveal();
    await this.rows.fetch(this.#focused, this.#focused + 1).catch(this.fail);
    const row = this.current;
    if (select && row) {
      if (extend) {
        this.#anchor ??= before;
        void this.#selectRange(this.#anchor, this.#focused).catch(this.fail);
      } else {
        this.#anchor = null;
        this.actions.select([row.row]);
      }
    }
    this.actions.focus(row);
    await this.draw();
  }

  /** Selects all rows between two places, unless the focus has moved meanwhile. */
  async #selectRange(from: number, to: number) {
    const rows = await this.rows.numbers(Math.min(from, to), Math.max(from, to) + 1);
    if (this.#anchor === from && this.#focused === to) this.actions.select(rows);
  }

  /** Scrolls the row in focus into view. */
  #reveal() {
    const { clientHeight, scrollHeight } = this.#table;
    // Browsers limit the height of an element, so with a million rows a scrolled pixel stands for more.
    const full = (this.rows.total + 1) * ROW_HEIGHT - clientHeight;
    const scale = full > 0 ? Math.min(1, (scrollHeight - clientHeight) / full) : 1;
    const top = this.#focused * ROW_HEIGHT;
    const room = clientHeight - 2 * ROW_HEIGHT; // the head, and the row itself
    const scrolled = this.#table.scrollTop / scale;
    if (top < scrolled) this.#table.scrollTop = top * scale;
    else if (top > scrolled + room) this.#table.scrollTop = (top - room) * scale;
  }

  async #data(left: number, start: number, right: number, stop: number) {
    const { rows } = this;
    start = Math.max(0, Math.floor(start));
    stop = Math.min(stop, start + LARGEST, rows.total);
    // A filter may leave fewer rows than regular-table requests.
    if (stop > start) while (!(await rows.fetch(start, stop)));
    else if (!rows.at(0)) while (!(await rows.fetch(0, 1)));
    const last = Math.min(stop, rows.total);
    const shown: (Row | undefined)[] = [];
    for (let place = start; place < last; place++) shown.push(rows.at(place));
    const kinds = this.#columns.slice(left, right);
    const data = kinds.map((kind) => {
      if (kind === "why") return shown.map(() => "why?");
      if (kind === "correction") return shown.map((row) => row?.correction ?? "");
      const place = this.#places.get(kind)!;
      return shown.map((row) => row?.cells[place] ?? "");
    });
    return {
      num_rows: rows.total,
      num_columns: this.#columns.length,
      row_height: ROW_HEIGHT,
      row_headers: shown.map((row) => [row?.index ?? ""]),
      column_headers: kinds.map((kind) => [this.#heading(kind)]),
      merge_headers: "column" as const,
      data,
    };
  }

  #heading(column: Kind): string {
    if (isExtra(column)) return column === "why" ? "explain" : "corrected";
    const { output } = this.outline;
    const short = column.name.startsWith(`${output}_`) ? column.name.slice(output.length + 1) : "";
    return short || column.name;
  }

  #style() {
    const table = this.body;
    if (!table) return;
    const { total } = this.rows;
    table.setAttribute("role", "grid");
    table.setAttribute("tabindex", "0");
    // With -1 on the host of a shadow tree, Tab would skip everything inside.
    this.#table.removeAttribute("tabindex");
    table.setAttribute("aria-rowcount", String(total + 1));
    table.setAttribute("aria-multiselectable", "true");
    table.setAttribute("aria-label", `Answers in ${this.outline.output}`);
    let active = "";
    for (const line of table.querySelectorAll("thead tr")) line.setAttribute("aria-rowindex", "1");
    for (const cell of table.querySelectorAll<HTMLElement>("thead th")) {
      const meta = this.#table.getMeta(cell);
      const column = meta && meta.type === "column_header" ? this.#columns[meta.x] : undefined;
      const name = column && !isExtra(column) ? column.name : null;
      cell.className = `${cell.className.replace(/\b(sortable|up|down|number)\b/g, "").trim()}`;
      cell.setAttribute("scope", "col");
      if (name === null) {
        cell.removeAttribute("aria-sort");
        // regular-table leaves the heading of the index empty.
        if (!column && !cell.textContent) {
          cell.firstElementChild!.textContent = this.outline.index;
        }
        continue;
      }
      cell.classList.add("sortable");
      cell.title = name;
      if (!isExtra(column) && column?.number) cell.classList.add("number");
      const by = this.#query.sort === name;
      if (by) cell.classList.add(this.#query.descending ? "down" : "up");
      cell.setAttribute(
        "aria-sort",
        by ? (this.#query.descending ? "descending" : "ascending") : "none",
      );
    }
    for (const line of table.querySelectorAll<HTMLElement>("tbody tr")) {
      const first = line.querySelector<HTMLElement>("td");
      const meta = first && this.#table.getMeta(first);
      const row = meta && meta.type === "body" ? this.rows.at(meta.y) : undefined;
      if (!row) continue;
      line.setAttribute("aria-rowindex", String(row.place + 2));
      line.setAttribute("aria-selected", String(this.#selected.has(row.row)));
      line.classList.toggle("current", row.place === this.#focused);
      line.classList.toggle("failed", row.failed);
      line.classList.toggle("wrong", row.wrong);
      line.classList.toggle("corrected", row.correction !== null);
      if (row.place === this.#focused) active = line.id = `${this.#id}-row`;
      else line.removeAttribute("id");
      for (const cell of line.querySelectorAll<HTMLElement>("td")) {
        const { x } = this.#table.getMeta(cell) as { x: number };
        const column = this.#columns[x];
        cell.className = isExtra(column) ? column : (column?.role ?? "");
        if (!isExtra(column) && column?.number) cell.classList.add("number");
      }
      for (const cell of line.querySelectorAll("th")) cell.setAttribute("scope", "row");
    }
    if (active) table.setAttribute("aria-activedescendant", active);
    else table.removeAttribute("aria-activedescendant");
  }

  #rowOf(target: HTMLElement): Row | undefined {
    const cell = target.closest<HTMLElement>("tbody td, tbody th");
    const meta = cell && this.#table.getMeta(cell);
    return meta && "y" in meta && meta.y !== undefined ? this.rows.at(meta.y) : undefined;
  }

  #mouseDown(event: MouseEvent) {
    const row = this.#rowOf(event.target as HTMLElement);
    if (!row || event.button !== 0) return;
    if (event.shiftKey) event.preventDefault(); // select rows, not text
    this.body?.focus({ preventScroll: true });
    if (event.ctrlKey || event.metaKey) {
      const rows = new Set(this.#selected);
      if (!rows.delete(row.row)) rows.add(row.row);
      this.actions.select([...rows]);
      void this.focusPlace(row.place, false);
    } else {
      void this.focusPlace(row.place, true, event.shiftKey);
    }
  }

  #click(event: MouseEvent) {
    const target = event.target as HTMLElement;
    const row = target.closest("td.why") ? this.#rowOf(target) : undefined;
    if (row) this.actions.explain(row);
    const head = target.closest<HTMLElement>("thead th.sortable");
    const meta = head && this.#table.getMeta(head);
    const column = meta && meta.type === "column_header" ? this.#columns[meta.x] : undefined;
    if (column && !isExtra(column)) this.actions.sort(column.name);
  }

  #keyDown(event: KeyboardEvent) {
    if (event.altKey) return;
    const held = event.ctrlKey || event.metaKey;
    const moves: Record<string, number> = {
      ArrowDown: this.#focused + 1,
      ArrowUp: this.#focused - 1,
      PageDown: this.#focused + PAGE,
      PageUp: this.#focused - PAGE,
      Home: 0,
      End: this.rows.total - 1,
    };
    const { current } = this;
    const label = held || event.shiftKey ? undefined : this.#keys.get(event.key);
    if (event.key in moves) {
      void this.focusPlace(moves[event.key]!, true, event.shiftKey);
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      this.#table.scrollLeft += event.key === "ArrowRight" ? 80 : -80;
    } else if (event.key === " " && current) {
      const rows = new Set(this.#selected);
      if (!rows.delete(current.row)) rows.add(current.row);
      this.actions.select([...rows]);
    } else if (event.key === "Enter" && current) {
      this.actions.explain(current);
    } else if (event.key === "Backspace") {
      this.actions.undo();
    } else if (event.key === "Delete" && current && current.correction !== null) {
      this.actions.correct(current, null);
    } else if (label !== undefined && current) {
      this.actions.correct(current, label);
      void this.focusPlace(this.#focused + 1);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}
