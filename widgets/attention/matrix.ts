// One head as a matrix: a row per query token, a column per key token. Zoomed out, each pixel has
// the largest weight of its block; zoom in, and in the readout, weights are exact.

import { h, sharpen } from "../shared/dom";
import { MATRIX_PIXELS, type Range } from "../shared/protocol";
import { scaleOf, type Theme } from "../shared/theme";
import { block } from "./layout";
import { legend } from "./legend";
import {
  byWord, covered, drawAxes, drawPicture, fitting, GUTTER, indexOf, isByToken, largestOf, pixelsOf,
  type Place, place, shrunk, type Size,
} from "./plot";
import { Readout } from "./readout";
import type { AttentionSource, Axes, Picture, Selection } from "./source";
import type { Units } from "./units";
import { pan, panTo, type Window, zoom } from "./viewport";

const LARGEST = MATRIX_PIXELS + GUTTER; // CSS pixels a side
const SETTLED = 120; // ms from the last move to the request for the new window
const DRAG = 4; // pixels
const STEPS: Record<string, [row: number, column: number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

export interface View {
  selection: Selection;
  picture: Picture;
  words: boolean; // pieces of words are joined
  token: number | null;
  key: number | null;
}

export class Matrix {
  readonly element: HTMLElement;
  #canvas = h("canvas", { "aria-hidden": true });
  #cross = h("div", { class: "cross", hidden: true });
  #row = h("div", { class: "row-mark", hidden: true });
  #column = h("div", { class: "row-mark", hidden: true });
  #stage: HTMLElement;
  #readout: Readout;
  #legend = h("p", { class: "legend" });
  #extent = h("span", {});
  #side = 0;
  #view: View | undefined;
  #window: [Range, Range];
  #theme: Theme | undefined;
  #place: Place | undefined;
  #image: { of: Picture; units: Axes; theme: string; most: Size; data: ImageData; full: number } | undefined;
  #at: [query: number, key: number] | undefined;
  #settling = 0;

  constructor(
    private source: AttentionSource,
    title: string,
    readonly resolution: number, // pixels per side that are requested, whatever the screen's
    private select: (query: number, key: number) => void,
    private setWindow: (window: Window | null) => void,
    private toggleScale: () => void, // of colours
  ) {
    this.#readout = new Readout(source);
    const { queries, keys } = source.outline;
    this.#window = [[0, queries.tokens.length], [0, keys.tokens.length]];
    this.#stage = h(
      "div",
      {
        class: "stage",
        tabindex: 0,
        role: "application",
        "aria-roledescription": "attention matrix",
        "aria-label":
          `${title}. Arrow keys move over queries and keys, Enter selects the cell, plus and ` +
          "minus zoom, with Shift arrow keys pan, 0 shows all, L switches to logarithmic colours and back.",
      },
      this.#canvas,
      this.#row,
      this.#column,
      this.#cross,
    );
    this.#listen();
    const button = (name: string, sign: string, act: () => void) => {
      const made = h("button", { type: "button", "aria-label": `${name}, ${title}`, title: name }, sign);
      made.addEventListener("click", act);
      return made;
    };
    const tools = h(
      "span",
      { class: "tools" },
      button("Zoom out", "−", () => this.#zoomBy(2)),
      button("Zoom in", "+", () => this.#zoomBy(0.5)),
      button("Show all", "All", () => this.#move(null)),
    );
    const caption = h("div", { class: "caption" }, h("b", {}, title), " ", this.#extent, h("span", { class: "spring" }), tools);
    this.element = h("div", { class: "matrix" }, caption, this.#stage, this.#readout.element, this.#legend);
  }

  layOut(width: number) {
    this.#side = Math.max(160, Math.min(Math.floor(width), LARGEST));
  }

  /** Removes the matrix, where the one of the current state is not available. */
  clear() {
    this.element.classList.add("empty");
    this.#point(undefined);
    this.#view = undefined;
    this.#readout.clear();
  }

  show(view: View, theme: Theme) {
    this.element.classList.remove("empty");
    this.#view = view;
    this.#theme = theme;
    if (!this.#settling) this.#window = [view.picture.rows, view.picture.columns];
    this.#draw();
    const { full } = this.#image!;
    this.#legend.replaceChildren(...legend(this.source.outline, { ...view, joins: this.#joins, full }, theme));
    this.#describe();
  }

  get #units(): Axes {
    return this.source.units(this.#view?.words ?? false);
  }

  /** Whether word pieces are joined, which takes a pixel per token. */
  get #joins(): boolean {
    return this.#view!.words && isByToken(this.#view!.picture);
  }

  get #size(): [number, number] {
    const { queries, keys } = this.source.outline;
    return [queries.tokens.length, keys.tokens.length];
  }

  get #cell(): [height: number, width: number] {
    const [rows, columns] = this.#window;
    const { height, width } = this.#place!;
    return [height / (rows[1] - rows[0]), width / (columns[1] - columns[0])];
  }

  #draw() {
    const { outline } = this.source;
    const [view, theme] = [this.#view!, this.#theme!];
    const [rows, columns] = this.#window;
    const at = place(rows, columns, this.#side);
    this.#place = at;
    const ratio = window.devicePixelRatio || 1;
    const context = sharpen(this.#canvas, at.left + at.width, at.top + at.height);
    const most = fitting(view.picture, [rows, columns], at, ratio);
    const key = { of: view.picture, units: this.#units, theme: `${theme.dark} ${theme.scale}`, most };
    const cached = this.#image;
    if (
      cached?.of !== key.of || cached.units !== key.units || cached.theme !== key.theme ||
      String(cached.most) !== String(most)
    ) {
      const joins = this.#joins;
      const whole = joins ? byWord(view.picture, key.units) : view.picture;
      // The joined weight of a word may exceed the largest weight of a token.
      const full = joins
        ? Math.max(view.picture.full, largestOf(whole, key.units.keys, outline.sink))
        : view.picture.full;
      const scale = scaleOf(theme, outline.signed, full);
      const picture = shrunk(whole, most);
      const units = joins ? key.units : this.source.units(false);
      this.#image = { ...key, full, data: pixelsOf(picture, outline.causal, units, scale.map, scale.level) };
    }
    drawPicture(context, this.#image!.data, view.picture, [rows, columns], at);
    const style = getComputedStyle(this.element);
    const inks = [style.color, style.getPropertyValue("--nbllm-accent")] as [string, string];
    drawAxes(context, outline, this.#units, [rows, columns], at, inks);
    this.#mark();
    this.#drawCross();
    const [height, width] = this.#size;
    const all = rows[1] - rows[0] === height && columns[1] - columns[0] === width;
    this.#extent.textContent = all
      ? ""
      : `queries ${rows[0]}–${rows[1] - 1}, keys ${columns[0]}–${columns[1] - 1}`;
  }

  #mark() {
    const { token, key } = this.#view!;
    const [rows, columns] = this.#window;
    const { left, top, width, height } = this.#place!;
    const [tall, wide] = this.#cell;
    const put = (element: HTMLElement, on: boolean, box: [number, number, number, number]) => {
      element.hidden = !on;
      const [x, y, w, h] = box;
      element.style.cssText = `left:${x}px;top:${y}px;width:${w}px;height:${h}px`;
    };
    const inside = (at: number | null, [start, stop]: Range) => at !== null && at >= start && at < stop;
    const bar = (at: number, units: Units, [first, last]: Range, size: number) => {
      const [start, stop] = covered(units, [at, at + 1]);
      const [from, to] = [Math.max(start, first), Math.min(stop, last)];
      const thick = Math.max((to - from) * size, 3);
      return [((from + to) / 2 - first) * size - thick / 2, thick] as const;
    };
    const { queries, keys } = this.#units;
    const [y, thick] = bar(token ?? 0, queries, rows, tall);
    put(this.#row, inside(token, rows), [left, top + y, width, thick]);
    const [x, broad] = bar(key ?? 0, keys, columns, wide);
    put(this.#column, inside(key, columns), [left + x, top, broad, height]);
  }

  #listen() {
    const stage = this.#stage;
    let held: { x: number; y: number; window: [Range, Range]; moved: boolean } | undefined;
    stage.addEventListener("pointerdown", (event) => {
      held = { x: event.clientX, y: event.clientY, window: this.#window, moved: false };
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!this.#view) return;
      if (held) {
        const [dx, dy] = [event.clientX - held.x, event.clientY - held.y];
        held.moved ||= Math.hypot(dx, dy) > DRAG;
        if (!held.moved) return;
        const [tall, wide] = this.#cell;
        this.#point(undefined);
        this.#move(pan(held.window, this.#size, [-Math.round(dy / tall), -Math.round(dx / wide)]));
        return;
      }
      this.#point(this.#cellUnder(event));
    });
    stage.addEventListener("pointerup", (event) => {
      const dragged = held?.moved;
      held = undefined;
      if (dragged || !this.#view) return;
      this.#point(this.#cellUnder(event));
      this.#selectCell();
    });
    stage.addEventListener("pointercancel", () => (held = undefined));
    stage.addEventListener("pointerleave", () => this.#point(undefined));
    stage.addEventListener("blur", () => this.#point(undefined));
    stage.addEventListener("keydown", (event) => this.#key(event));
    stage.addEventListener("wheel", (event) => {
      // Otherwise the page could not be scrolled past the matrix.
      const zooms = event.ctrlKey || event.metaKey || document.activeElement === stage;
      if (!zooms || !this.#view) return;
      event.preventDefault();
      this.#zoomBy(Math.exp(Math.max(-0.5, Math.min(0.5, event.deltaY * 0.003))), this.#cellUnder(event));
    }, { passive: false });
  }

  #cellUnder(event: MouseEvent): [number, number] | undefined {
    const box = this.#canvas.getBoundingClientRect();
    const { left, top } = this.#place!;
    const [rows, columns] = this.#window;
    const [tall, wide] = this.#cell;
    const query = rows[0] + Math.floor((event.clientY - box.top - top) / tall);
    const key = columns[0] + Math.floor((event.clientX - box.left - left) / wide);
    const inside = query >= rows[0] && query < rows[1] && key >= columns[0] && key < columns[1];
    return inside ? [query, key] : undefined;
  }

  #zoomBy(factor: number, around?: [number, number]) {
    if (!this.#view) return;
    const { token, key } = this.#view;
    const [rows, columns] = this.#window;
    const middle = ([start, stop]: Range) => (start + stop) >> 1;
    const last = this.source.outline.causal && token !== null ? token : Infinity; // of the visible keys
    const start = [token ?? middle(rows), key ?? Math.min(middle(columns), last)] as const;
    const centre = around ?? this.#at ?? start;
    const inside = (at: number, [start, stop]: Range) => Math.max(start, Math.min(stop - 1, at));
    this.#move(
      zoom(this.#window, this.#size, factor, [inside(centre[0], rows), inside(centre[1], columns)]),
    );
  }

  /** Moves at once with the current picture; the new one is requested after the last move. */
  #move(window: Window | null) {
    if (!this.#view) return;
    const [top, bottom, left, right] = window ?? [0, this.#size[0], 0, this.#size[1]];
    this.#window = [[top, bottom], [left, right]];
    this.#draw();
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      this.#settling = 0;
      this.setWindow(window);
    }, SETTLED) as unknown as number;
  }

  #key(event: KeyboardEvent) {
    const step = STEPS[event.key];
    const acts: Record<string, () => void> = {
      Enter: () => this.#selectCell(),
      "+": () => this.#zoomBy(0.5),
      "=": () => this.#zoomBy(0.5),
      "-": () => this.#zoomBy(2),
      "0": () => this.#move(null),
      l: this.toggleScale,
      L: this.toggleScale,
    };
    const act = step ? () => this.#step(step, event.shiftKey) : acts[event.key];
    if (!this.#view || !act || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation(); // else JupyterLab moves to the next cell
    act();
  }

  #step([down, right]: [number, number], moveWindow: boolean) {
    const [rows, columns] = this.#window;
    if (moveWindow) {
      const by = (move: number, [start, stop]: Range) => move * Math.max(1, (stop - start) >> 2);
      this.#move(pan(this.#window, this.#size, [by(down, rows), by(right, columns)]));
      return;
    }
    const { token, key } = this.#view!;
    if (!this.#at) {
      const start = token ?? rows[0];
      this.#pointAndPan([start, key ?? Math.min(start, this.#size[1] - 1)]);
      return;
    }
    const [query, column] = this.#at.map((at, axis) => {
      const [start, stop] = this.#block(at, axis as 0 | 1);
      const move = axis === 0 ? down : right;
      return move < 0 ? start - 1 : move > 0 ? stop : at;
    }) as [number, number];
    const clamp = (at: number, axis: 0 | 1) => Math.max(0, Math.min(this.#size[axis] - 1, at));
    this.#pointAndPan([clamp(query, 0), clamp(column, 1)]);
  }

  /** Points at a cell, panning to it if needed. */
  #pointAndPan(at: [number, number]) {
    const window = panTo(this.#window, this.#size, at);
    const [rows, columns] = this.#window;
    const off = at[0] < rows[0] || at[0] >= rows[1] || at[1] < columns[0] || at[1] >= columns[1];
    if (off) this.#move(window);
    this.#point(at);
  }

  /** Returns the tokens along an axis that share a pixel or a word with this one. */
  #block(at: number, axis: 0 | 1): Range {
    const { queries, keys } = this.#units;
    return covered(axis === 0 ? queries : keys, this.#pixel(at, axis));
  }

  #pixel(at: number, axis: 0 | 1): Range {
    const { rows, columns, height, width } = this.#view!.picture;
    const [range, side] = axis === 0 ? [rows, height] : [columns, width];
    if (at < range[0] || at >= range[1]) return [at, at + 1];
    return block(indexOf(at, side, range), side, range);
  }

  #selectCell() {
    const cell = this.#readout.hottest ?? this.#at;
    if (cell) this.select(...cell);
  }

  #point(at: [number, number] | undefined) {
    if (String(at) === String(this.#at)) return;
    this.#at = at;
    if (!this.#view) return;
    this.#drawCross();
    this.#describe();
  }

  #drawCross() {
    this.#cross.hidden = !this.#at;
    if (!this.#at) return;
    const [rows, columns] = this.#window;
    const { left, top } = this.#place!;
    const span = (axis: 0 | 1, first: number, size: number, offset: number) => {
      const block = this.#block(this.#at![axis], axis);
      const [start, stop] = [Math.max(block[0], this.#window[axis][0]), Math.min(block[1], this.#window[axis][1])];
      const length = Math.max((stop - start) * size, 5);
      return [offset + ((start + stop) / 2 - first) * size - length / 2, length] as const;
    };
    const [tall, wide] = this.#cell;
    const [y, height] = span(0, rows[0], tall, top);
    const [x, width] = span(1, columns[0], wide, left);
    this.#cross.style.cssText = `left:${x}px;top:${y}px;width:${width}px;height:${height}px`;
  }

  #describe() {
    const [at, view] = [this.#at, this.#view];
    const cell = at && view && {
      at,
      rows: this.#block(at[0], 0),
      columns: this.#block(at[1], 1),
      units: this.#units,
      selection: view.selection,
      joins: this.#joins,
    };
    this.#readout.show(cell);
  }
}
