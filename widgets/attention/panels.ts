// The linked panels of one source: heads, words, matrices, lines, and the score of one cell.

import { h } from "../shared/dom";
import type { Theme } from "../shared/theme";
import { aboutHead, flow, rankedHeads } from "./about";
import { Detail } from "./detail";
import { HeadsGrid } from "./heads";
import { joinRows, Lines, tokensOf } from "./lines";
import type { Matrix } from "./matrix";
import { titleOf } from "./measures";
import type { Picture, Rows, AttentionSource } from "./source";
import { selectionOf, type State } from "./state";
import { Timeline } from "./timeline";
import { Words } from "./words";

const HEADS = "layers from left to right, heads from top to bottom";

const caption = (title: string, ...more: (Node | string)[]) =>
  h("div", { class: "caption" }, h("b", {}, title), " ", ...more);

export class Panels {
  readonly element = h("div", { class: "body" });
  readonly grid: HeadsGrid;
  #lines: Lines;
  #linesPanel: HTMLElement;
  #detail: Detail;
  #timeline: Timeline | undefined;
  #queryWords: Words;
  #coloured: Words; // `#queryWords` itself, unless the keys are another text
  #pair = h("div", { class: "pair" });
  #below = h("div", { class: "pair" });
  #detailPanel: HTMLElement;
  #about = h("div", { class: "about", "aria-live": "polite" });
  #flow = h("div", { class: "flow" });
  #order = h("span", {}, HEADS);
  #hover = h("span", { class: "hover" });
  #values: { measure: string; values: Float32Array[] } | undefined;
  #sorting: string | null = null;
  #described: { state: State; picture: Picture } | undefined;
  #revealed = false;

  constructor(
    readonly source: AttentionSource,
    private set: (change: Partial<State>) => void,
  ) {
    const { outline } = source;
    const toToken = (token: number) => set({ token, key: null });
    const toKey = (key: number) => set({ key });
    this.grid = new HeadsGrid(source, (head) => set({ ...head }));
    this.#lines = new Lines(outline, toToken, toKey);
    this.#detail = new Detail(source);
    const written = outline.prompt_length;
    if (written !== null) this.#timeline = new Timeline(outline, toToken);
    const say = (message: string) => (this.#hover.textContent = message);
    const both = outline.queries === outline.keys;
    const tokens = source.units(false);
    this.#queryWords = new Words(
      tokens.queries,
      written,
      both
        ? "The text. Select the token whose attention is painted on the words; with Shift, the key."
        : "The text that looks. Select the token whose attention is painted on the other text.",
      (token, second) => (second && both ? toKey(token) : toToken(token)),
      both ? say : () => {},
    );
    this.#coloured = both
      ? this.#queryWords
      : new Words(tokens.keys, null, "The text that is looked at. Select a key.", toKey, say);
    this.#linesPanel = h("div", { class: "panel" }, caption("Lines"), this.#lines.element);
    this.#detailPanel = h(
      "div",
      { class: "panel" },
      caption("One score", h("span", {}, "query · key, dimension by dimension")),
      this.#detail.element,
    );
    this.element.append(...this.#build());
  }

  /** Adds the matrices, which the panels of all comparands share. */
  setMatrices(matrices: Matrix[]) {
    const panels = matrices.map((matrix) => h("div", { class: "panel" }, matrix.element));
    const compared = matrices.length > 1;
    this.#pair.classList.toggle("three", compared);
    this.#pair.replaceChildren(...panels, ...(compared ? [] : [this.#linesPanel]));
    this.#below.replaceChildren(...(compared ? [this.#linesPanel] : []), this.#detailPanel);
  }

  #build(): HTMLElement[] {
    const { outline } = this.source;
    const framed = outline.queries.marks.length ? "; your own text is framed" : "";
    const hint =
      this.#queryWords === this.#coloured
        ? `choose a token, and its attention is painted on the words${framed}`
        : "choose a token above, and its attention is painted on the words below";
    return [
      caption("All heads", this.#order),
      h("div", { class: "top" }, this.grid.element, this.#about),
      caption("Words", h("span", {}, hint), h("span", { class: "spring" }), this.#hover),
      ...(this.#timeline ? [this.#timeline.element] : []),
      this.#queryWords.element,
      ...(this.#coloured === this.#queryWords ? [] : [this.#coloured.element]),
      this.#flow,
      this.#pair,
      this.#below,
    ];
  }

  layOut(width: number, theme: Theme) {
    this.grid.layOut(width, theme);
    this.#lines.layOut(this.#linesPanel.clientWidth || width);
  }

  /** Requests the weights of the rows around the selected query, over all keys. */
  rows(state: State): Promise<Rows> {
    const { queries } = this.source.units(state.words);
    const rows = tokensOf(queries, this.#lines.range(queries, state.token));
    return this.source.tile(selectionOf(state), rows, [0, this.source.outline.keys.tokens.length]);
  }

  /** Shows words, lines and flow; returns the key and the weight for `showDetail`. */
  showRows(state: State, rows: Rows, theme: Theme) {
    const { outline } = this.source;
    const { queries, keys } = this.source.units(state.words);
    const { token } = state;
    const range = this.#lines.range(queries, token);
    const joined = joinRows(rows, queries, keys, range);
    const unit = queries.unit(token);
    const row = unit === null ? undefined : joined[unit - range[0]];
    const first = tokensOf(queries, range)[0];
    const plain = token === null ? undefined : rows.weights[token - first];
    const key = state.key ?? (plain ? strongestKey(plain, outline.sink) : null);
    const both = this.#queryWords === this.#coloured;
    this.#queryWords.units = queries;
    this.#coloured.units = keys;
    const { sink, signed } = outline;
    this.#queryWords.show(token, both ? state.key : null, both ? row : undefined, sink, signed, theme);
    if (!both) this.#coloured.show(state.key, null, row, sink, signed, theme);
    if (!this.#revealed) this.#queryWords.reveal();
    this.#revealed = true;
    this.#lines.show(queries, keys, joined, token, state.key);
    this.#timeline?.show(token);
    const removed = state.mask_sink && plain ? rows.sinkMass[token! - first]! : null;
    this.#flow.replaceChildren(
      ...(plain && unit !== null
        ? flow(plain, `${queries.label(unit)} (token ${token})`, outline, removed)
        : ["No token is selected."]),
    );
    return { key, weight: plain && key !== null ? plain[key] : undefined };
  }

  /** Removes the rows, where those of the current state are not available. */
  clearRows(state: State, theme: Theme) {
    const { queries, keys } = this.source.units(state.words);
    const { sink, signed } = this.source.outline;
    this.#queryWords.units = queries;
    this.#coloured.units = keys;
    this.#queryWords.show(state.token, null, undefined, sink, signed, theme);
    if (this.#queryWords !== this.#coloured) {
      this.#coloured.show(state.key, null, undefined, sink, signed, theme);
    }
    this.#lines.element.replaceChildren();
    this.#flow.replaceChildren();
    this.#detail.showMessage("");
  }

  async showDetail(state: State, key: number | null, weight: number | undefined) {
    if (this.source.outline.signed) this.#detail.showMessage("A difference has no score of its own: choose a or b.");
    else if (state.reduce !== "head") this.#detail.showMessage("A score belongs to one head: show one head.");
    else await this.#detail.show(state, state.token, key, weight);
  }

  describe(state: State, picture: Picture) {
    this.#described = { state, picture };
    const { outline } = this.source;
    const known = this.#values?.measure === this.#measureOf(state) ? this.#values : undefined;
    const select = (head: { layer: number; head: number }) => this.set(head);
    this.#about.replaceChildren(
      ...aboutHead(state, outline, picture),
      ...(known ? rankedHeads(known.measure, known.values, outline, select) : []),
    );
  }

  /** Sorts the heads by the state's measure, which the kernel computes on the first request. */
  async sort(state: State, theme: Theme) {
    const measure = this.#measureOf(state);
    const version = measure ? state.measured[this.source.outline.stack]?.[measure] : undefined;
    const sorting = measure && `${measure} ${version ?? ""}`;
    if (sorting === this.#sorting) return;
    this.#sorting = sorting;
    const values = measure ? await this.#valuesOf(measure, version) : undefined;
    if (sorting !== this.#sorting) return; // another was chosen meanwhile
    this.#values = measure && values ? { measure, values } : undefined;
    this.grid.sort(measure, values);
    this.#order.textContent = measure ? `by ${titleOf(measure)}, the largest of each layer at its top` : HEADS;
    const now = this.#described!;
    this.grid.show(now.state, now.state.reduce !== "head", theme);
    this.describe(now.state, now.picture);
  }

  #valuesOf(measure: string, version: number | undefined): Promise<Float32Array[]> {
    return version === undefined ? this.source.measure(measure) : this.source.ownMeasure(measure, version);
  }

  #measureOf(state: State): string | null {
    return this.source.outline.signed ? "difference" : state.measure;
  }
}

/** Returns the key with the largest weight of a row, without the sink. */
function strongestKey(row: Float32Array, sink: number | null): number | null {
  let best: number | null = null;
  row.forEach((weight, key) => {
    if (key !== sink && weight > (best === null ? 0 : row[best]!)) best = key;
  });
  return best;
}
