// One attention score as a sum over the dimensions of query and key.

import { h, svg } from "../shared/dom";
import { NOT_STORED } from "../shared/offline";
import { label, weightText } from "./layout";
import type { Head, Outline, AttentionSource } from "./source";

const HEIGHT = 34;
const LISTED = 4; // dimensions

export class Detail {
  readonly element = h("div", { class: "detail" });
  #text = h("p", { "aria-live": "polite" });
  #bars = h("div", { class: "bars" });
  #requested = "";

  constructor(private source: AttentionSource) {
    this.element.append(this.#text, this.#bars);
  }

  async show(head: Head, query: number | null, key: number | null, weight: number | undefined) {
    const { outline } = this.source;
    const requested = [head.layer, head.head, query, key].join();
    this.#requested = requested;
    if (query === null || key === null) return this.showMessage("Select a query and a key, as by a click into the matrix, to see what made their score.");
    if (outline.causal && key > query) return this.showMessage(`${pair(outline, query, key)}: the key comes later and cannot be seen.`);
    const dimensions = await this.source.dimensions(head, query, key).catch((error: Error) => {
      if (error.message !== NOT_STORED) throw error;
      return undefined;
    });
    if (requested !== this.#requested) return;
    if (!dimensions) return this.showMessage("What a score is made of is shown in the notebook; this page does not hold it.");
    const { q, k, product, plain } = dimensions;
    const total = product.reduce((sum, value) => sum + value, 0);
    const order = Array.from(product.keys()).sort(
      (a, b) => Math.abs(product[b]!) - Math.abs(product[a]!),
    );
    const largest = order
      .slice(0, LISTED)
      .map((at) => `${at} (${signed(product[at]!)})`)
      .join(", ");
    this.#text.replaceChildren(
      h("b", {}, pair(outline, query, key)),
      `: score ${signed(total)}${plain ? "" : " before soft-cap and bias"}, the sum over ${product.length} dimensions of q·k·scale`,
      weight === undefined ? "" : `; weight ${weightText(weight)}`,
      `. Dimensions that made most of it: ${largest}.`,
    );
    this.#bars.replaceChildren(
      bars("q", "query", q),
      bars("k", "key", k),
      bars("q·k·scale", "product", product),
    );
  }

  showMessage(text: string) {
    this.#requested = "";
    this.#text.textContent = text;
    this.#bars.replaceChildren();
  }
}

const pair = ({ queries, keys }: Outline, query: number, key: number): string =>
  `${label(query, queries)} ${query} → ${label(key, keys)} ${key}`;

const signed = (value: number): string =>
  `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(Math.abs(value) < 10 ? 2 : 1)}`;

/** Draws a bar per dimension, upwards or downwards from the middle; the largest has full height. */
function bars(name: string, kind: string, values: Float32Array): HTMLElement {
  const most = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-12);
  const drawing = svg("svg", {
    class: kind,
    viewBox: `0 0 ${values.length} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": `${name}, ${values.length} dimensions, the largest ${signed(most)}`,
  });
  drawing.append(svg("rect", { x: 0, y: HEIGHT / 2 - 0.25, width: values.length, height: 0.5, class: "axis" }));
  values.forEach((value, at) => {
    const height = (Math.abs(value) / most) * (HEIGHT / 2);
    const bar = svg("rect", {
      x: at + 0.12,
      y: value > 0 ? HEIGHT / 2 - height : HEIGHT / 2,
      width: 0.76,
      height,
      class: value < 0 ? "less" : "more",
    });
    bar.append(svg("title", {}, `${name}, dimension ${at}: ${value.toPrecision(4)}`));
    drawing.append(bar);
  });
  return h("div", { class: "strip" }, h("span", {}, name), drawing, h("span", { class: "most" }, `±${most.toPrecision(2)}`));
}
