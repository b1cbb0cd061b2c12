// One head as lines from queries to keys, around the selected query. The keys shown are the
// ones that take most of its weight, wherever in the text they lie.

import { svg } from "../shared/dom";
import { fullOfRow, isMarked, label, strongest, windowAround } from "./layout";
import type { Outline } from "./recording";

const PITCH = 19;
const QUERIES = 21;
const TOP = 26;
const FAINTEST = 0.06; // of full colour; thinner lines would not be seen

export class Lines {
  readonly element = svg("svg", { class: "lines", role: "img" });
  #width = 400;

  constructor(
    private outline: Outline,
    private select: (token: number) => void,
  ) {}

  /** Which queries are on screen: [start, stop). */
  range(token: number | null): [number, number] {
    const start = this.outline.marks[0]?.[1] ?? 0;
    return windowAround(token ?? start + (QUERIES >> 1), QUERIES, this.outline.tokens.length);
  }

  layOut(width: number) {
    this.#width = Math.max(280, Math.min(Math.floor(width), 560));
  }

  /** rows: the weights of the queries in range(token), whole. */
  show(rows: Float32Array[], token: number | null) {
    const [start, stop] = this.range(token);
    const chosen = token === null ? undefined : rows[token - start]!;
    const keys = chosen
      ? strongest(chosen, QUERIES)
      : Array.from({ length: stop - start }, (_, at) => start + at);
    const left = this.#width * 0.36;
    const right = this.#width * 0.6;
    const y = (slot: number) => TOP + (slot + 0.5) * PITCH;
    const height = TOP + Math.max(stop - start, keys.length) * PITCH + 6;
    const parts: SVGElement[] = [
      svg("text", { x: left - 8, y: 12, class: "end head" }, "query"),
      svg("text", { x: right + 8, y: 12, class: "head" }, chosen ? "its strongest keys" : "key"),
    ];
    const curve = (query: number, slot: number) => {
      const middle = (left + right) / 2;
      const [from, to] = [y(query - start), y(slot)];
      return `M${left},${from}C${middle},${from} ${middle},${to} ${right},${to}`;
    };
    for (const selected of [false, true]) {
      rows.forEach((row, offset) => {
        const query = start + offset;
        if ((query === token) !== selected) return;
        const full = fullOfRow(row, this.outline.sink);
        keys.forEach((key, slot) => {
          const part = Math.min(row[key]! / full, 1);
          if (part < FAINTEST) return;
          const strength = Math.sqrt(part);
          parts.push(
            svg("path", {
              d: curve(query, slot),
              class: key === this.outline.sink ? "to-sink" : selected ? "chosen" : "other",
              "stroke-width": key === this.outline.sink ? 1 : selected ? 0.6 + 3 * strength : 0.8,
              "stroke-opacity": (selected || token === null ? 0.95 : 0.3) * strength,
            }),
          );
        });
      });
    }
    for (let query = start; query < stop; query++) {
      parts.push(this.#token(query, left - 8, y(query - start), query === token, "end"));
    }
    const room = this.#width - right - 8;
    const full = chosen ? fullOfRow(chosen, this.outline.sink) : 1;
    keys.forEach((key, slot) => {
      if (slot > 0 && key - keys[slot - 1]! > 1) {
        const gap = TOP + slot * PITCH;
        parts.push(svg("line", { x1: right, x2: right + 7, y1: gap, y2: gap, class: "gap" }));
      }
      if (chosen) {
        const part = Math.min(chosen[key]! / full, 1);
        const top = y(slot) - PITCH / 2 + 2;
        const bar = { x: right + 2, y: top, width: (room - 46) * part, height: PITCH - 4, rx: 2 };
        parts.push(svg("rect", { ...bar, class: key === this.outline.sink ? "bar sink" : "bar" }));
        const number = chosen[key]!.toFixed(3);
        parts.push(svg("text", { x: this.#width - 2, y: y(slot) + 4, class: "end number" }, number));
      }
      parts.push(this.#token(key, right + 8, y(slot), key === token, ""));
    });
    this.element.setAttribute("viewBox", `0 0 ${this.#width} ${height}`);
    this.element.setAttribute("width", String(this.#width));
    this.element.setAttribute("height", String(height));
    this.element.setAttribute("aria-label", this.#describe(chosen, token));
    this.element.replaceChildren(...parts);
  }

  #token(token: number, x: number, y: number, selected: boolean, anchor: string): SVGElement {
    const kind = [
      "token",
      anchor,
      selected ? "selected" : "",
      isMarked(token, this.outline) || !this.outline.marks.length ? "" : "dim",
    ];
    const text = svg(
      "text",
      { x, y: y + 4, class: kind.join(" ") },
      svg("title", {}, `token ${token}`),
      label(token, this.outline, 15),
    );
    text.addEventListener("click", () => this.select(token));
    return text;
  }

  #describe(chosen: Float32Array | undefined, token: number | null): string {
    if (!chosen || token === null) return "Lines from queries to keys; no query is selected.";
    const keys = strongest(chosen, 5)
      .sort((a, b) => chosen[b]! - chosen[a]!)
      .map((key) => `${label(key, this.outline)} ${chosen[key]!.toFixed(3)}`);
    return `Strongest keys of “${label(token, this.outline)}”: ${keys.join(", ")}.`;
  }
}
