// The grid of all heads: a thumbnail per head, or its value of a measure, sorted within each layer.
// Columns are layers, from the first on the left to the last.

import { css, level } from "../shared/colour";
import { h, sharpen } from "../shared/dom";
import type { Theme } from "../shared/theme";
import { cellSide } from "./layout";
import { type Ranking, rank } from "./measures";
import type { Head, AttentionSource, Thumbnails } from "./source";

const GAP = 2;
const MARGIN = { left: 26, top: 18 };

export class HeadsGrid {
  readonly element: HTMLElement;
  #canvas = h("canvas", { "aria-hidden": true });
  #grid: HTMLElement;
  #cells: HTMLElement[][] = []; // [slot][layer]
  #pictures: Thumbnails[] = []; // by layer
  #ranking: Ranking | undefined;
  #side = 0;
  #theme: Theme | undefined;
  #selected: [slot: number, layer: number] = [0, 0];
  #loading = false;

  constructor(
    private source: AttentionSource,
    private select: (head: Head) => void,
  ) {
    const { layers, heads } = source.outline;
    this.#grid = h("div", {
      role: "grid",
      class: "cells",
      "aria-rowcount": heads,
      "aria-colcount": layers.length,
    });
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
    this.element = h("div", { class: "heads" }, this.#canvas, this.#grid);
  }

  get isFilled(): boolean {
    return this.#cells.length > 0;
  }

  /** Adds a focusable cell per head on top of the canvas. */
  #fill() {
    const { layers, heads } = this.source.outline;
    const rows = Array.from({ length: heads }, (_, slot) => {
      const cells = layers.map((_, layer) => {
        const cell = h("div", { role: "gridcell", tabindex: -1, "aria-colindex": layer + 1 });
        cell.addEventListener("click", () => this.#choose(slot, layer));
        return cell;
      });
      this.#cells.push(cells);
      return h("div", { role: "row", "aria-rowindex": slot + 1 }, ...cells);
    });
    this.#grid.append(...rows);
    this.#setLabels();
    this.#draw();
  }

  /** Fetches the thumbnails one layer at a time, nearest to layer `first` first. */
  async load(first: number) {
    const { layers, signed } = this.source.outline;
    const missing = layers.map((_, at) => at).filter((at) => !this.#pictures[at]);
    if (this.#loading || signed || !missing.length) return;
    this.#loading = true;
    this.#grid.setAttribute("aria-busy", "true");
    missing.sort((a, b) => Math.abs(layers[a]! - first) - Math.abs(layers[b]! - first));
    try {
      for (const at of missing) {
        if (!this.element.isConnected) break;
        this.#pictures[at] = await this.source.thumbnails(layers[at]!);
        if (!this.#ranking) this.#paint(at);
      }
    } finally {
      this.#loading = false;
      this.#grid.removeAttribute("aria-busy");
    }
  }

  /** Sorts the heads of each layer by a measure; without one, shows thumbnails in the model's order. */
  sort(measure: string | null, values: Float32Array[] | undefined) {
    this.#ranking = measure && values ? rank(measure, values) : undefined;
    this.#setLabels();
    if (this.#theme) this.#draw();
  }

  layOut(width: number, theme: Theme) {
    const { layers, heads } = this.source.outline;
    this.#theme = theme;
    this.#side = cellSide(layers.length, heads, width - MARGIN.left);
    this.#grid.style.cssText =
      `--side:${this.#side}px;left:${MARGIN.left}px;top:${MARGIN.top}px;` +
      `grid-template-columns:repeat(${layers.length},${this.#side}px)`;
    this.#draw();
  }

  show({ layer, head }: Head, allHeads: boolean, theme: Theme) {
    const recoloured = theme.scale !== this.#theme?.scale;
    this.#theme = theme;
    if (!this.isFilled) this.#fill();
    else if (recoloured) this.#draw();
    for (const cell of this.#grid.querySelectorAll("[aria-selected]")) {
      cell.removeAttribute("aria-selected");
    }
    this.#cells[this.#selected[0]]![this.#selected[1]]!.tabIndex = -1;
    const at = this.source.outline.layers.indexOf(layer);
    this.#selected = [this.#slot(at, head), at];
    const cell = this.#cells[this.#selected[0]]![at]!;
    cell.tabIndex = 0;
    for (const row of allHeads ? this.#cells : [this.#cells[this.#selected[0]]!]) {
      row[at]!.setAttribute("aria-selected", "true");
    }
  }

  #head(at: number, slot: number): number {
    return this.#ranking?.order[at]![slot] ?? slot;
  }

  #slot(at: number, head: number): number {
    return this.#ranking ? this.#ranking.order[at]!.indexOf(head) : head;
  }

  #choose(slot: number, at: number) {
    this.#cells[slot]![at]!.focus({ preventScroll: true });
    this.select({ layer: this.source.outline.layers[at]!, head: this.#head(at, slot) });
  }

  #key(event: KeyboardEvent) {
    const { layers, heads } = this.source.outline;
    let [slot, at] = this.#selected;
    if (event.key === "ArrowLeft") at--;
    else if (event.key === "ArrowRight") at++;
    else if (event.key === "ArrowUp") slot--;
    else if (event.key === "ArrowDown") slot++;
    else if (event.key === "Home") at = 0;
    else if (event.key === "End") at = layers.length - 1;
    else return;
    event.preventDefault();
    event.stopPropagation(); // else JupyterLab moves to the next cell
    if (at >= 0 && slot >= 0 && at < layers.length && slot < heads) this.#choose(slot, at);
  }

  #setLabels() {
    const { layers } = this.source.outline;
    const ranking = this.#ranking;
    this.#grid.setAttribute(
      "aria-label",
      ranking
        ? `All heads by ${ranking.title}, largest first in each layer; a column for each layer`
        : "All heads, a row for each head and a column for each layer",
    );
    this.#cells.forEach((row, slot) =>
      row.forEach((cell, at) => {
        const head = this.#head(at, slot);
        const value = ranking ? `, ${ranking.title} ${ranking.text(at, head)}` : "";
        cell.title = `layer ${layers[at]}, head ${head}${value}`;
        cell.setAttribute("aria-label", cell.title);
      }),
    );
  }

  #draw() {
    const { layers, heads } = this.source.outline;
    const side = this.#side;
    const size = [MARGIN.left + layers.length * side, MARGIN.top + heads * side] as const;
    const context = sharpen(this.#canvas, ...size);
    if (!this.isFilled) return; // only reserves its space: it is drawn after the matrix
    context.font = "10px system-ui, sans-serif";
    context.fillStyle = getComputedStyle(this.element).color;
    context.textBaseline = "middle";
    const every = [1, 2, 5, 10, 20].find((step) => step * side >= 24) ?? 20;
    context.textAlign = "center";
    for (let at = 0; at < layers.length; at += every) {
      context.fillText(String(layers[at]), MARGIN.left + (at + 0.5) * side, MARGIN.top / 2);
    }
    context.textAlign = "right";
    for (let head = 0; head < heads && !this.#ranking; head += side < 12 ? 2 : 1) {
      context.fillText(String(head), MARGIN.left - 6, MARGIN.top + (head + 0.5) * side);
    }
    layers.forEach((_, at) => this.#paint(at));
  }

  #paint(at: number) {
    if (!this.#theme || !this.#side) return;
    const context = this.#canvas.getContext("2d")!;
    const { map } = this.#theme;
    const picture = this.#pictures[at];
    const inner = this.#side - GAP;
    for (let slot = 0; slot < this.source.outline.heads; slot++) {
      const left = MARGIN.left + at * this.#side + GAP / 2;
      const top = MARGIN.top + slot * this.#side + GAP / 2;
      const head = this.#head(at, slot);
      const ranking = this.#ranking;
      const value = ranking ? ranking.level(at, head) : 0;
      context.fillStyle = css(map[value]!);
      context.fillRect(left, top, inner, inner);
      if (!ranking && picture) drawThumbnail(context, picture, head, this.#theme, [left, top, inner]);
    }
  }
}

function drawThumbnail(
  context: CanvasRenderingContext2D,
  { height, width, shares }: Thumbnails,
  head: number,
  { map, scale }: Theme,
  [left, top, inner]: [number, number, number],
) {
  const pixels = new ImageData(width, height);
  for (let index = 0; index < height * width; index++) {
    pixels.data.set(map[level(shares[head * height * width + index]!, 1, scale)]!, 4 * index);
    pixels.data[4 * index + 3] = 255;
  }
  const small = new OffscreenCanvas(width, height);
  small.getContext("2d")!.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(small, left, top, inner, inner);
}
