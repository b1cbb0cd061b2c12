// A slider over the steps of a generation: each attends from one token and writes the next.

import { h } from "../shared/dom";
import { label } from "./layout";
import type { Outline } from "./source";

export class Timeline {
  readonly element: HTMLElement;
  #slider: HTMLInputElement;
  #text = h("span", { class: "step" });
  #first: number;
  #last: number;

  constructor(
    private outline: Outline,
    private select: (token: number) => void,
  ) {
    this.#first = outline.prompt_length! - 1;
    // The model may have stopped without reading the last token that it wrote.
    this.#last = Math.max(this.#first, outline.queries.tokens.length - 2);
    this.#slider = h("input", {
      type: "range",
      min: this.#first,
      max: this.#last,
      step: 1,
      "aria-label": "Step of the generation",
    });
    this.#slider.addEventListener("input", () => this.select(this.#slider.valueAsNumber));
    this.#slider.addEventListener("keydown", (event) => event.stopPropagation());
    this.element = h("label", { class: "timeline" }, h("b", {}, "Steps"), this.#slider, this.#text);
  }

  show(token: number | null) {
    const steps = this.#last - this.#first + 1;
    const inside = token !== null && token >= this.#first && token <= this.#last;
    const { queries } = this.outline;
    this.#slider.value = String(token ?? this.#first); // beyond its ends, the end
    const text = inside
      ? `step ${token - this.#first + 1} of ${steps}: from “${label(token, queries)}” it wrote “${label(Math.min(token + 1, queries.tokens.length - 1), queries)}”`
      : `${steps} steps: move to follow them`;
    this.#text.textContent = text;
    this.#slider.setAttribute("aria-valuetext", text);
  }
}
