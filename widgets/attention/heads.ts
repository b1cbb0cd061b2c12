// All heads at a glance: one small picture for each layer and head. Layers run from left to
// right, as the text runs through them.

import { h, sharpen } from "../shared/dom";
import type { Theme } from "../shared/theme";
import { cellSide } from "./layout";
import type { Head, Recording } from "./recording";

const GAP = 2;
const MARGIN = { left: 26, top: 18 };

export class HeadsGrid {
  readonly element: HTMLElement;
  #canvas = h("canvas", { "aria-hidden": true });
  #grid: HTMLElement;
  #cells: HTMLElement[][] = []; // [head][layer]
  #levels: { side: number; levels: Uint8Array }[] = []; // by layer
  #side = 0;
  #theme: Theme | undefined;
  #selected: Head = { layer: 0, head: 0 };

  constructor(
    private recording: Recording,
    private select: (head: Head) => void,
  ) {
    const { layers, heads } = recording.outline;
    this.#grid = h("div", {
      role: "grid",
      class: "cells",
      "aria-label": "All heads, a row for each head and a column for each layer",
      "aria-rowcount": heads,
      "aria-colcount": layers,
    });
    for (let head = 0; head < heads; head++) {
      const row = h("div", { role: "row", "aria-rowindex": head + 1 });
      this.#cells.push(
        Array.from({ length: layers }, (_, layer) => {
          const name = `layer ${layer}, head ${head}`;
          const cell = h("div", {
            role: "gridcell",
            tabindex: -1,
            title: name,
            "aria-label": name,
            "aria-colindex": layer + 1,
          });
          cell.addEventListener("click", () => this.#go({ layer, head }));
          row.append(cell);
          return cell;
        }),
      );
      this.#grid.append(row);
    }
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
    this.element = h("div", { class: "heads" }, this.#canvas, this.#grid);
  }

  /** Fetches the pictures, the shown layer's first. */
  async load(first: number) {
    const order = Array.from({ length: this.recording.outline.layers }, (_, layer) => layer);
    order.sort((a, b) => Math.abs(a - first) - Math.abs(b - first));
    for (const layer of order) {
      if (!this.element.isConnected) return;
      this.#levels[layer] = await this.recording.thumbnails(layer);
      this.#paint(layer);
    }
  }

  layOut(width: number, theme: Theme) {
    const { layers, heads } = this.recording.outline;
    this.#theme = theme;
    this.#side = cellSide(layers, heads, width - MARGIN.left);
    this.#grid.style.cssText =
      `--side:${this.#side}px;left:${MARGIN.left}px;top:${MARGIN.top}px;` +
      `grid-template-columns:repeat(${layers},${this.#side}px)`;
    const size = [MARGIN.left + layers * this.#side, MARGIN.top + heads * this.#side] as const;
    const context = sharpen(this.#canvas, ...size);
    context.font = "10px system-ui, sans-serif";
    context.fillStyle = getComputedStyle(this.element).color;
    context.textBaseline = "middle";
    const every = [1, 2, 5, 10, 20].find((step) => step * this.#side >= 24) ?? 20;
    context.textAlign = "center";
    for (let layer = 0; layer < layers; layer += every) {
      context.fillText(String(layer), MARGIN.left + (layer + 0.5) * this.#side, MARGIN.top / 2);
    }
    context.textAlign = "right";
    for (let head = 0; head < heads; head += this.#side < 12 ? 2 : 1) {
      context.fillText(String(head), MARGIN.left - 6, MARGIN.top + (head + 0.5) * this.#side);
    }
    for (let layer = 0; layer < layers; layer++) this.#paint(layer);
  }

  show(selected: Head) {
    const before = this.#cells[this.#selected.head]![this.#selected.layer]!;
    before.removeAttribute("aria-selected");
    before.tabIndex = -1;
    this.#selected = selected;
    const cell = this.#cells[selected.head]![selected.layer]!;
    cell.setAttribute("aria-selected", "true");
    cell.tabIndex = 0;
  }

  #go(head: Head) {
    this.select(head);
    this.#cells[head.head]![head.layer]!.focus({ preventScroll: true });
  }

  #key(event: KeyboardEvent) {
    const { layers, heads } = this.recording.outline;
    let { layer, head } = this.#selected;
    if (event.key === "ArrowLeft") layer--;
    else if (event.key === "ArrowRight") layer++;
    else if (event.key === "ArrowUp") head--;
    else if (event.key === "ArrowDown") head++;
    else if (event.key === "Home") layer = 0;
    else if (event.key === "End") layer = layers - 1;
    else return;
    event.preventDefault();
    event.stopPropagation(); // else JupyterLab moves to the next cell
    if (layer >= 0 && head >= 0 && layer < layers && head < heads) this.#go({ layer, head });
  }

  #paint(layer: number) {
    const picture = this.#levels[layer];
    if (!this.#theme || !this.#side) return;
    const context = this.#canvas.getContext("2d")!;
    const inner = this.#side - GAP;
    for (let head = 0; head < this.recording.outline.heads; head++) {
      const left = MARGIN.left + layer * this.#side + GAP / 2;
      const top = MARGIN.top + head * this.#side + GAP / 2;
      const [red, green, blue] = this.#theme.map[0]!;
      context.fillStyle = `rgb(${red} ${green} ${blue})`;
      context.fillRect(left, top, inner, inner);
      if (!picture) continue;
      const { side, levels } = picture;
      const pixels = new ImageData(side, side);
      for (let index = 0; index < side * side; index++) {
        pixels.data.set(this.#theme.map[levels[head * side * side + index]!]!, 4 * index);
        pixels.data[4 * index + 3] = 255;
      }
      const small = new OffscreenCanvas(side, side);
      small.getContext("2d")!.putImageData(pixels, 0, 0);
      context.imageSmoothingEnabled = true;
      context.drawImage(small, left, top, inner, inner);
    }
  }
}
