// One head as lines from queries to keys, around the selected query. The keys shown are those with
// most of its weight, wherever they are in the text.

import { svg } from "../shared/dom";
import { QUERIES_IN_LINES, type Range } from "../shared/protocol";
import { fullOfRow, strongest, weightText, windowAround } from "./layout";
import type { Outline, Rows } from "./source";
import { meanRow, type Units } from "./units";

const PITCH = 19;
const TOP = 26;
const FAINTEST = 0.06; // of full colour; thinner lines would not be seen
const MOST_WEIGHTS = 120_000; // half a megabyte per request

export class Lines {
  readonly element = svg("svg", { class: "lines", role: "img" });
  #width = 400;

  constructor(
    private outline: Outline,
    private select: (token: number) => void,
    private selectKey: (token: number) => void,
  ) {}

  /** Returns the queries on screen, as units [start, stop). */
  range(queries: Units, token: number | null): Range {
    const first = this.outline.queries.marks[0]?.[1] ?? 0;
    const centre = queries.unit(token) ?? queries.unit(first)! + (QUERIES_IN_LINES >> 1);
    const columns = this.outline.keys.tokens.length;
    for (let count = QUERIES_IN_LINES; ; count--) {
      const range = windowAround(centre, count, queries.length);
      const [start, stop] = tokensOf(queries, range);
      if (count === 1 || (stop - start) * columns <= MOST_WEIGHTS) return range;
    }
  }

  layOut(width: number) {
    this.#width = Math.max(260, Math.min(Math.floor(width), 560));
  }

  /** Draws the lines; `rows` has the weights over key units of the query units in `range(queries, token)`. */
  show(queries: Units, keys: Units, rows: Float32Array[], token: number | null, key: number | null) {
    const [start, stop] = this.range(queries, token);
    const sink = keys.unit(this.outline.sink);
    const [unit, keyUnit] = [queries.unit(token), keys.unit(key)];
    const chosen = unit === null ? undefined : rows[unit - start]!;
    const slots = chosen
      ? strongest(chosen, QUERIES_IN_LINES)
      : Array.from({ length: Math.min(stop, keys.length) - start }, (_, at) => start + at);
    const left = this.#width * 0.34;
    const right = this.#width * 0.58;
    const y = (slot: number) => TOP + (slot + 0.5) * PITCH;
    const height = TOP + Math.max(stop - start, slots.length) * PITCH + 6;
    const heading = this.outline.signed ? "where it differs most" : "its strongest keys";
    const parts: SVGElement[] = [
      svg("text", { x: left - 8, y: 12, class: "end head" }, "query"),
      svg("text", { x: right + 8, y: 12, class: "head" }, chosen ? heading : "key"),
    ];
    const curve = (query: number, slot: number) => {
      const middle = (left + right) / 2;
      const [from, to] = [y(query - start), y(slot)];
      return `M${left},${from}C${middle},${from} ${middle},${to} ${right},${to}`;
    };
    for (const selected of [false, true]) {
      rows.forEach((row, offset) => {
        const query = start + offset;
        if ((query === unit) !== selected) return;
        const full = fullOfRow(row, sink);
        slots.forEach((place, slot) => {
          const fraction = Math.min(Math.abs(row[place]!) / full, 1);
          if (fraction < FAINTEST) return;
          const strength = Math.sqrt(fraction);
          const kind = row[place]! < 0 ? "less" : selected ? "chosen" : "other";
          parts.push(
            svg("path", {
              d: curve(query, slot),
              class: place === sink ? "to-sink" : kind,
              "stroke-width": place === sink ? 1 : selected ? 0.6 + 3 * strength : 0.8,
              "stroke-opacity": (selected || token === null ? 0.95 : 0.3) * strength,
            }),
          );
        });
      });
    }
    for (let query = start; query < stop; query++) {
      const at = [left - 8, y(query - start)] as const;
      parts.push(this.#label(queries, query, at, query === unit, "end", this.select));
    }
    const room = this.#width - right - 8;
    const full = chosen ? fullOfRow(chosen, sink) : 1;
    slots.forEach((place, slot) => {
      if (slot > 0 && place - slots[slot - 1]! > 1) {
        const gap = TOP + slot * PITCH;
        parts.push(svg("line", { x1: right, x2: right + 7, y1: gap, y2: gap, class: "gap" }));
      }
      if (chosen) {
        const fraction = Math.min(Math.abs(chosen[place]!) / full, 1);
        const bar = { x: right + 2, y: y(slot) - PITCH / 2 + 2, height: PITCH - 4, rx: 2 };
        const kind = place === sink ? "bar sink" : chosen[place]! < 0 ? "bar less" : "bar";
        parts.push(svg("rect", { ...bar, width: (room - 50) * fraction, class: kind }));
        const number = weightText(chosen[place]!, 3);
        parts.push(svg("text", { x: this.#width - 2, y: y(slot) + 4, class: "end number" }, number));
      }
      const at = [right + 8, y(slot)] as const;
      parts.push(this.#label(keys, place, at, place === keyUnit, "", this.selectKey));
    });
    this.element.setAttribute("viewBox", `0 0 ${this.#width} ${height}`);
    this.element.setAttribute("width", String(this.#width));
    this.element.setAttribute("height", String(height));
    this.element.setAttribute("aria-label", describe(queries, keys, chosen, unit));
    this.element.replaceChildren(...parts);
  }

  #label(
    units: Units,
    unit: number,
    [x, y]: readonly [number, number],
    selected: boolean,
    anchor: string,
    select: (token: number) => void,
  ): SVGElement {
    const dim = units.row.marks.length && !units.marked(unit) ? "dim" : "";
    const [token] = units.tokens(unit);
    const text = svg(
      "text",
      { x, y: y + 4, class: ["token", anchor, selected ? "selected" : "", dim].join(" ") },
      svg("title", {}, `token ${token}`),
      units.label(unit, 14),
    );
    text.addEventListener("click", () => select(token));
    return text;
  }
}

/** Returns the tokens that consecutive units cover. */
export function tokensOf(units: Units, [start, stop]: Range): Range {
  return [units.tokens(start)[0], units.tokens(stop - 1)[1]];
}

/** Joins weights by token to weights by unit: summed over keys, averaged over queries. */
export function joinRows({ weights }: Rows, queries: Units, keys: Units, units: Range) {
  const [first] = tokensOf(queries, units);
  return Array.from({ length: units[1] - units[0] }, (_, at) => {
    const [start, stop] = queries.tokens(units[0] + at);
    return keys.sum(meanRow(weights.slice(start - first, stop - first)));
  });
}

function describe(queries: Units, keys: Units, chosen: Float32Array | undefined, unit: number | null) {
  if (!chosen || unit === null) return "Lines from queries to keys; no query is selected.";
  const strongestKeys = strongest(chosen, 5)
    .sort((a, b) => Math.abs(chosen[b]!) - Math.abs(chosen[a]!))
    .map((key) => `${keys.label(key)} ${weightText(chosen[key]!, 3)}`);
  return `Strongest keys of “${queries.label(unit)}”: ${strongestKeys.join(", ")}.`;
}
