// One head as a matrix: a row is a query token, a column the key that it looks at.

import { css, level } from "../shared/colour";
import { h, sharpen } from "../shared/dom";
import type { Theme } from "../shared/theme";
import { block, label, weightText } from "./layout";
import type { Head, Picture, Recording } from "./recording";

const GUTTER = 10; // room for the bars that mark the user's text
const STEPS: Record<string, [row: number, column: number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

export class Matrix {
  readonly element: HTMLElement;
  #canvas = h("canvas", { "aria-hidden": true });
  #cross = h("div", { class: "cross", hidden: true });
  #row = h("div", { class: "row-mark", hidden: true });
  #stage: HTMLElement;
  #readout = h("p", { class: "readout", "aria-live": "polite" });
  #legend = h("p", { class: "legend" });
  #side = 0;
  #head: Head = { layer: 0, head: 0 };
  #picture: Picture | undefined;
  #token: number | null = null;
  #at: [row: number, column: number] | undefined; // in pixels of the picture

  constructor(
    private recording: Recording,
    private select: (token: number) => void,
  ) {
    this.#stage = h(
      "div",
      {
        class: "stage",
        tabindex: 0,
        role: "application",
        "aria-roledescription": "attention matrix",
        "aria-label":
          "Attention matrix. Arrow keys move over queries and keys, Enter selects the query.",
      },
      this.#canvas,
      this.#row,
      this.#cross,
    );
    this.#stage.addEventListener("pointermove", (event) => this.#hover(event));
    this.#stage.addEventListener("pointerleave", () => this.#point(undefined));
    this.#stage.addEventListener("blur", () => this.#point(undefined));
    this.#stage.addEventListener("click", (event) => {
      this.#hover(event);
      this.#choose();
    });
    this.#stage.addEventListener("keydown", (event) => this.#key(event));
    this.element = h("div", { class: "matrix" }, this.#stage, this.#readout, this.#legend);
  }

  /** Pixels a side that the screen can show. */
  get resolution(): number {
    const pixels = Math.round((this.#side - GUTTER) * (window.devicePixelRatio || 1));
    return Math.max(1, Math.min(this.recording.outline.tokens.length, pixels, 700));
  }

  layOut(width: number) {
    this.#side = Math.max(120, Math.min(Math.floor(width), 420));
  }

  show(head: Head, picture: Picture, token: number | null, theme: Theme) {
    this.#head = head;
    this.#picture = picture;
    this.#token = token;
    this.#draw(theme);
    this.#markRow();
    this.#describe();
  }

  get #cell() {
    return (this.#side - GUTTER) / this.#picture!.side;
  }

  #draw({ map }: Theme) {
    const { outline } = this.recording;
    const { side, weights, full } = this.#picture!;
    const context = sharpen(this.#canvas, this.#side, this.#side);
    const pixels = new ImageData(side, side);
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < (outline.causal ? row + 1 : side); column++) {
        const at = row * side + column;
        pixels.data.set(map[level(weights[at]! / 65535, full)]!, 4 * at);
        pixels.data[4 * at + 3] = 255; // what a causal model cannot see stays transparent
      }
    }
    const exact = new OffscreenCanvas(side, side);
    exact.getContext("2d")!.putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(exact, GUTTER, GUTTER, this.#side - GUTTER, this.#side - GUTTER);
    context.fillStyle = getComputedStyle(this.element).getPropertyValue("--nbllm-accent");
    const scale = (this.#side - GUTTER) / outline.tokens.length;
    for (const [, start, stop] of outline.marks) {
      context.fillRect(GUTTER + start * scale, 2, (stop - start) * scale, 4);
      context.fillRect(2, GUTTER + start * scale, 4, (stop - start) * scale);
    }
    const gradient = [0, 0.25, 0.5, 0.75, 1].map((part) => css(map[Math.round(part * 255)]!));
    const sink = outline.sink === null ? "" : `, “${label(outline.sink, outline)}” left aside`;
    this.#legend.replaceChildren(
      "0",
      h("span", { class: "ramp", style: `background:linear-gradient(90deg,${gradient})` }),
      `${full.toPrecision(2)} and above (square-root scale, full colour set per head${sink})`,
    );
  }

  #markRow() {
    const { tokens } = this.recording.outline;
    this.#row.hidden = this.#token === null;
    if (this.#token === null) return;
    const scale = (this.#side - GUTTER) / tokens.length;
    const height = Math.max(scale, 3);
    const top = GUTTER + (this.#token + 0.5) * scale - height / 2;
    this.#row.style.cssText = `left:${GUTTER}px;top:${top}px;height:${height}px;width:${this.#side - GUTTER}px`;
  }

  #hover(event: PointerEvent | MouseEvent) {
    if (!this.#picture) return;
    const { left, top } = this.#canvas.getBoundingClientRect();
    const at = (offset: number) => Math.floor((offset - GUTTER) / this.#cell);
    const [row, column] = [at(event.clientY - top), at(event.clientX - left)];
    const { side } = this.#picture;
    const inside = row >= 0 && column >= 0 && row < side && column < side;
    this.#point(inside ? [row, column] : undefined);
  }

  #key(event: KeyboardEvent) {
    const step = STEPS[event.key];
    if (!this.#picture || (!step && event.key !== "Enter")) return;
    event.preventDefault();
    event.stopPropagation(); // else JupyterLab moves to the next cell
    if (!step) return this.#choose();
    const { side } = this.#picture;
    const here = Math.floor((((this.#token ?? 0) + 0.5) * side) / this.recording.outline.tokens.length);
    const [row, column] = this.#at ?? [here, here];
    const clamp = (value: number) => Math.max(0, Math.min(side - 1, value));
    this.#point(this.#at ? [clamp(row + step[0]), clamp(column + step[1])] : [row, column]);
  }

  #choose() {
    if (this.#at) this.select(block(this.#at[0], this.#picture!.side, this.recording.outline.tokens.length)[0]);
  }

  #point(at: [number, number] | undefined) {
    if (String(at) === String(this.#at)) return;
    this.#at = at;
    this.#cross.hidden = !at;
    if (at) {
      const size = Math.max(this.#cell, 5);
      const place = (index: number) => GUTTER + (index + 0.5) * this.#cell - size / 2;
      this.#cross.style.cssText = `left:${place(at[1])}px;top:${place(at[0])}px;width:${size}px;height:${size}px`;
    }
    void this.#describe();
  }

  /** Says what the pointed cell holds: its exact weight, or the largest of its block. */
  async #describe() {
    const at = this.#at;
    const { outline } = this.recording;
    if (!at || !this.#picture) {
      this.#readout.textContent = "Rows look at columns. Point at a cell to read its weight.";
      return;
    }
    const { side } = this.#picture;
    const count = outline.tokens.length;
    const [top, bottom] = block(at[0], side, count);
    const [left, right] = block(at[1], side, count);
    if (outline.causal && left >= bottom) {
      this.#readout.textContent = `“${label(top, outline)}” cannot see “${label(left, outline)}”: it comes later.`;
      return;
    }
    const rows = await this.recording.rows(this.#head, top, bottom).catch(() => undefined);
    if (!rows || String(at) !== String(this.#at)) return;
    let [query, key, most] = [top, left, -1];
    rows.forEach((row, offset) => {
      for (let column = left; column < right; column++) {
        if (row[column]! > most) [query, key, most] = [top + offset, column, row[column]!];
      }
    });
    const whole = bottom - top > 1 ? ` (largest of ${bottom - top} × ${right - left} cells)` : "";
    this.#readout.replaceChildren(
      h("b", {}, label(query, outline)),
      ` ${query} → `,
      h("b", {}, label(key, outline)),
      ` ${key}: `,
      h("b", { class: "weight" }, weightText(most)),
      whole,
    );
  }
}
