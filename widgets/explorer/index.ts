// The results explorer. What a reader sets is shared with Python and with every other view of
// the same widget; rows, counts and code are requested when they come on screen.

import type { Render } from "@anywidget/types";

import { h, nextPaint } from "../shared/dom";
import { framed } from "../shared/frame";
import type { Channel } from "../shared/kernel";
import type { ExplorerAnswers, ExplorerRequest } from "../shared/protocol";
import { onTheme, themeOf } from "../shared/theme";
import { Charts } from "./charts";
import { Detail, Legend } from "./detail";
import { Filters } from "./filters";
import { Grid } from "./grid";
import { count, type Kernel, type Outline, type RowWindow } from "./outline";
import { type Model, NAMES, type Query, read, sortedBy } from "./query";
import { type Row, Rows } from "./rows";

interface Change {
  row: number;
  before: string | null;
}

class View {
  #rows: Rows;
  #grid: Grid;
  #filters: Filters;
  #charts: Charts;
  #legend: Legend;
  #detail: Detail;
  #history: Change[] = [];
  #asked = 0;
  #explained = 0;
  #due = false;
  #selecting = false;

  constructor(
    private model: Model,
    private root: HTMLElement,
    private kernel: Kernel,
    outline: Outline,
    initial: RowWindow,
    private fail: (error: Error | null) => void,
  ) {
    const query = read(model);
    this.#rows = new Rows(kernel, outline, query, model.get("edits"), initial);
    this.#filters = new Filters(outline, (change) => this.#set(change));
    this.#charts = new Charts(kernel, outline, (change) => this.#set(change), fail);
    this.#legend = new Legend(
      outline,
      (label) => this.#correctCurrent(label),
      () => void this.#undo(),
      () => this.#explain(this.#grid.current),
    );
    this.#detail = new Detail(kernel, fail);
    this.#grid = new Grid(outline, this.#rows, query, {
      sort: (column) => this.#set(sortedBy(read(this.model), column)),
      select: (rows) => this.#select(rows),
      focus: (row) => this.#focus(row),
      correct: (row, label) => void this.#correct(row, label),
      undo: () => void this.#undo(),
      explain: (row) => this.#explain(row),
    }, fail);
    const { output, verb, failed, size, hidden } = outline;
    const about = [verb, `${count(size)} rows`, failed ? `${count(failed)} failed` : ""].filter(Boolean);
    if (hidden) about.push(`${hidden} more columns in the frame`);
    root.append(
      h("div", { class: "header" }, h("span", { class: "name" }, output), h("span", { class: "dim" }, about.join(" · "))),
      this.#filters.element,
      this.#charts.element,
      this.#grid.element,
      this.#legend.element,
      this.#detail.element,
    );
  }

  #set(change: Partial<Query> & { rows?: number[] }) {
    for (const [name, value] of Object.entries(change)) {
      this.model.set(name as keyof Query, value as never);
    }
    this.model.save_changes();
  }

  /** The reader stays where the row was selected, or taken out. */
  #select(rows: number[]) {
    this.#selecting = true;
    this.#set({ rows });
    this.#selecting = false;
  }

  async start(): Promise<void> {
    const query = read(this.model);
    this.#theme();
    this.#filters.show(query);
    this.#grid.show(this.model.get("rows"));
    await this.#grid.draw();
    this.#filters.tell(this.#rows.total);
    this.root.dataset.shown = `${this.#rows.total}/${this.#asked}`;
    this.#focus(this.#grid.current);
    // The table is on screen before the charts and their code are requested.
    await nextPaint();
    await this.#charts.show(query, this.model.get("edits"));
  }

  /** Follows the model and the theme until the returned function is called. */
  follow(): () => void {
    const filtered = () => this.#later();
    const edited = () => this.#edited();
    const selected = () => void this.#selected();
    for (const name of NAMES) this.model.on(`change:${name}`, filtered);
    this.model.on("change:edits", edited);
    this.model.on("change:rows", selected);
    const stopTheme = onTheme(() => {
      this.#theme();
      void this.#charts.redraw();
    });
    return () => {
      for (const name of NAMES) this.model.off(`change:${name}`, filtered);
      this.model.off("change:edits", edited);
      this.model.off("change:rows", selected);
      stopTheme();
      this.#charts.close();
    };
  }

  #theme() {
    this.root.classList.toggle("dark", themeOf(this.root).dark);
  }

  /** Several traits change together: one update is for all of them. */
  #later() {
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      void this.#filter();
    });
  }

  async #filter() {
    const query = read(this.model);
    const edits = this.model.get("edits");
    this.#filters.show(query);
    this.#rows.reset(query, edits);
    const turn = ++this.#asked;
    await this.#grid.renew(query);
    if (turn !== this.#asked) return;
    this.#filters.tell(this.#rows.total);
    this.root.dataset.shown = `${this.#rows.total}/${this.#asked}`;
    this.fail(null);
    void this.#charts.show(query, edits);
  }

  #edited() {
    const query = read(this.model);
    const edits = this.model.get("edits");
    this.#rows.refresh(edits);
    void this.#grid.draw().then(() => {
      this.#filters.tell(this.#rows.total);
      this.#legend.show(this.#grid.current, this.#history.length > 0);
    });
    if (query.only === "corrected") void this.#charts.show(query, edits);
  }

  /** Python may have selected a row that is not on screen. */
  async #selected() {
    const rows = this.model.get("rows");
    this.#grid.show(rows);
    const [first] = rows;
    if (this.#selecting || first === undefined || rows.includes(this.#grid.current?.row ?? -1)) return;
    await this.#goTo(first);
  }

  async #goTo(row: number, select = false) {
    try {
      const query = read(this.model);
      const version = query.only === "corrected" ? this.model.get("edits") : 0;
      const { content } = await this.kernel.ask({ kind: "place", query, row }, version);
      if (content.place !== null) await this.#grid.go(content.place, select);
    } catch (error) {
      this.fail(error as Error);
    }
  }

  #focus(row: Row | undefined) {
    this.#legend.show(row, this.#history.length > 0);
    this.#detail.show(row);
  }

  #correctCurrent(label: string) {
    const { current } = this.#grid;
    if (current) void this.#correct(current, current.correction === label ? null : label);
  }

  async #correct(row: Row, label: string | null) {
    this.#history.push({ row: row.row, before: row.correction });
    await this.#tell(row.row, label);
  }

  async #undo() {
    const last = this.#history.pop();
    if (!last) return;
    await this.#goTo(last.row, true);
    await this.#tell(last.row, last.before);
  }

  async #tell(row: number, label: string | null) {
    this.#rows.correct(row, label);
    void this.#grid.draw();
    this.#legend.show(this.#grid.current, this.#history.length > 0);
    try {
      await this.kernel.command({ kind: "correct", row, label });
      this.#rows.taken(row);
    } catch (error) {
      this.#rows.withdraw(row);
      void this.#grid.draw();
      this.fail(error as Error);
    }
  }

  #explain(row: Row | undefined) {
    if (!row) return;
    this.root.dataset.explained = String(row.row);
    const turn = ++this.#explained;
    this.kernel
      .command({ kind: "explain", row: row.row })
      .then(() => this.#bring(turn))
      .catch(this.fail);
  }

  /** Scrolls to the explanation, which stands below the table, as it comes. */
  async #bring(turn: number) {
    const panel = () =>
      this.root.closest(".jp-OutputArea-output, .widget-vbox")?.querySelector(".nbllm-explanation-panel");
    for (let tries = 0; tries < 100 && turn === this.#explained; tries++) {
      await new Promise((done) => setTimeout(done, 100));
      if (!this.root.isConnected) return;
      const view = panel()?.querySelector(".nbllm-attention[data-shown], .nbllm-attention .status:not([hidden])");
      if (view || panel()?.querySelector("[data-failed]")) {
        panel()!.scrollIntoView({ block: "nearest", behavior: "smooth" });
        return;
      }
    }
  }
}

const render: Render = ({ model, el }) => {
  const name = { class: "nbllm-explorer", label: "Results" };
  const { root, kernel, fail, close } = framed<ExplorerRequest, ExplorerAnswers>(
    el, name, model as never, model as unknown as Channel,
  );
  const outline = model.get("outline") as Outline;
  const initial = model.get("initial_rows") as RowWindow;
  const view = new View(model as unknown as Model, root, kernel, outline, initial, fail);
  const stop = view.follow();
  // regular-table measures what it draws, so it has to be on the page.
  const begin = () => void view.start().catch(fail);
  const waiting = new ResizeObserver(() => {
    if (!root.clientWidth) return;
    waiting.disconnect();
    begin();
  });
  waiting.observe(root);
  return () => {
    waiting.disconnect();
    stop();
    close();
  };
};

export default { render };
