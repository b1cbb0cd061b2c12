// The results explorer. Its settings are synced with Python and with every other view of the same
// widget; rows, counts and code are requested when they come on screen.

import type { Render } from "@anywidget/types";

import { after, h, nextPaint } from "../shared/dom";
import { formatNumber } from "../shared/format";
import { createFrame } from "../shared/frame";
import type { Channel } from "../shared/kernel";
import type { ExplorerAnswers, ExplorerRequest } from "../shared/protocol";
import { onTheme, themeOf } from "../shared/theme";
import { Charts } from "./charts";
import { Detail, Legend } from "./detail";
import { Filters } from "./filters";
import { Grid } from "./grid";
import type { Kernel, Outline, RowWindow } from "./outline";
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
  #turn = 0;
  #explained = 0;
  #isScheduled = false;
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
    const about = [verb, `${formatNumber(size)} rows`, failed ? `${formatNumber(failed)} failed` : ""].filter(Boolean);
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

  /** Selects rows from the table itself, which keeps its scroll position. */
  #select(rows: number[]) {
    this.#selecting = true;
    this.#set({ rows });
    this.#selecting = false;
  }

  async start(): Promise<void> {
    const query = read(this.model);
    this.#theme();
    this.#filters.show(query);
    this.#grid.setSelected(this.model.get("rows"));
    await this.#grid.draw();
    this.#filters.showCount(this.#rows.total);
    this.root.dataset.shown = `${this.#rows.total}/${this.#turn}`;
    this.#focus(this.#grid.current);
    // The table comes first; the charts and their code are requested afterwards.
    await nextPaint();
    await this.#charts.show(query, this.model.get("edits"));
  }

  /** Follows the model and the theme until the returned function is called. */
  follow(): () => void {
    const filtered = () => this.#schedule();
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

  /** Schedules one update for all traits that change together. */
  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      void this.#filter();
    });
  }

  async #filter() {
    const query = read(this.model);
    const edits = this.model.get("edits");
    this.#filters.show(query);
    this.#rows.reset(query, edits);
    const turn = ++this.#turn;
    await this.#grid.reset(query);
    if (turn !== this.#turn) return;
    this.#filters.showCount(this.#rows.total);
    this.root.dataset.shown = `${this.#rows.total}/${this.#turn}`;
    this.fail(null);
    void this.#charts.show(query, edits);
  }

  #edited() {
    const query = read(this.model);
    const edits = this.model.get("edits");
    this.#rows.refresh(edits);
    void this.#grid.draw().then(() => {
      this.#filters.showCount(this.#rows.total);
      this.#legend.show(this.#grid.current, this.#history.length > 0);
    });
    if (query.only === "corrected") void this.#charts.show(query, edits);
  }

  /** Marks the selected rows, and scrolls to the first if Python or another view selected it. */
  async #selected() {
    const rows = this.model.get("rows");
    this.#grid.setSelected(rows);
    const [first] = rows;
    if (this.#selecting || first === undefined || rows.includes(this.#grid.current?.row ?? -1)) return;
    await this.#goTo(first);
  }

  async #goTo(row: number, select = false) {
    try {
      const query = read(this.model);
      const version = query.only === "corrected" ? this.model.get("edits") : 0;
      const { content } = await this.kernel.request({ kind: "place", query, row }, version);
      if (content.place !== null) await this.#grid.focusPlace(content.place, select);
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
    await this.#sendCorrection(row.row, label);
  }

  async #undo() {
    const last = this.#history.pop();
    if (!last) return;
    await this.#goTo(last.row, true);
    await this.#sendCorrection(last.row, last.before);
  }

  async #sendCorrection(row: number, label: string | null) {
    this.#rows.correct(row, label);
    void this.#grid.draw();
    this.#legend.show(this.#grid.current, this.#history.length > 0);
    try {
      await this.kernel.command({ kind: "correct", row, label });
      this.#rows.confirm(row);
    } catch (error) {
      this.#rows.reject(row);
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
      .then(() => this.#scrollToExplanation(turn))
      .catch(this.fail);
  }

  /** Scrolls to the explanation below the table once it is there. */
  async #scrollToExplanation(turn: number) {
    const panel = () =>
      this.root.closest(".jp-OutputArea-output, .widget-vbox")?.querySelector(".nbllm-explanation-panel");
    for (let tries = 0; tries < 100 && turn === this.#explained; tries++) {
      await after(100);
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
  const { root, kernel, fail, close } = createFrame<ExplorerRequest, ExplorerAnswers>(
    el, name, model as never, model as unknown as Channel,
  );
  const outline = model.get("outline") as Outline;
  const initial = model.get("initial_rows") as RowWindow;
  const view = new View(model as unknown as Model, root, kernel, outline, initial, fail);
  const stop = view.follow();
  // regular-table measures its cells, so it has to be visible.
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
