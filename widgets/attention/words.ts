// A text as selectable tokens or words, coloured by their weights.

import { css, type RGB, textColour } from "../shared/colour";
import { h } from "../shared/dom";
import type { TokenFields } from "../shared/protocol";
import { scaleOf, type Theme } from "../shared/theme";
import { fullOfRow, isContinuation, weightText } from "./layout";
import type { Units } from "./units";

const BOXFUL = 3000; // characters

export class Words {
  readonly element: HTMLElement;
  readonly row: TokenFields;
  #units: Units;
  #words: HTMLElement[] = [];
  #colours: (RGB | undefined)[] = [];
  #chosen: number | null = null; // a unit
  #keyUnit: number | null = null;
  #weights: Float32Array | undefined;
  #sink: number | null = null;

  constructor(
    tokens: Units,
    private written: number | null, // the first token that the model generated
    label: string,
    private select: (token: number, second: boolean) => void,
    private onHover: (message: string) => void,
  ) {
    this.element = h("div", { class: "words", role: "listbox", dir: "auto", "aria-label": label });
    this.row = tokens.row;
    this.#units = tokens;
    // Thousands of elements would delay the matrix, so plain text stands in for them at first.
    this.element.append(this.row.text.slice(0, BOXFUL));
    this.element.classList.toggle("marked", this.row.marks.length > 0);
    this.element.addEventListener("click", (event) => {
      const unit = this.#at(event);
      if (unit !== undefined) this.#choose(unit, event.shiftKey);
    });
    this.element.addEventListener("pointerover", (event) => {
      const unit = this.#at(event);
      if (unit === undefined || !this.#weights) return;
      this.onHover(`“${this.#units.label(unit)}” gets ${weightText(this.#weights[unit]!)}`);
    });
    this.element.addEventListener("pointerleave", () => this.onHover(""));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Sets what is shown as one element: tokens or words. */
  set units(units: Units) {
    if (units === this.#units) return;
    this.#units = units;
    this.#chosen = null;
    this.#keyUnit = null;
    this.#words = [];
  }

  /** Scrolls to the user's own text, else to the selected token. */
  reveal() {
    const marked = this.element.querySelector<HTMLElement>(".mark");
    const target = marked ?? this.#words[this.#chosen ?? 0];
    if (target) this.element.scrollTop = Math.max(0, target.offsetTop - 12);
  }

  /** Frames the query `token` and the key `second`, and colours each unit by its weight. */
  show(
    token: number | null,
    second: number | null,
    weights: Float32Array | undefined,
    sink: number | null,
    signed: boolean,
    theme: Theme,
  ) {
    if (!this.#words.length) this.#build();
    const frame = (unit: number | null, on: boolean) => {
      const word = unit === null ? undefined : this.#words[unit];
      word?.setAttribute("aria-selected", String(on));
      if (word) word.tabIndex = on ? 0 : -1;
    };
    frame(this.#chosen ?? 0, false);
    this.#words[this.#keyUnit ?? -1]?.classList.remove("key");
    const before = this.#chosen;
    [this.#chosen, this.#keyUnit] = [this.#units.unit(token), this.#units.unit(second)];
    frame(this.#chosen, true);
    if (this.#chosen === null) this.#words[0]!.tabIndex = 0;
    this.#words[this.#keyUnit ?? -1]?.classList.add("key");
    this.#words[this.#sink ?? -1]?.classList.remove("sink");
    this.#sink = weights ? this.#units.unit(sink) : null;
    this.#words[this.#sink ?? -1]?.classList.add("sink");
    this.#weights = weights;
    this.#colourWords(signed, theme);
    if (this.#chosen !== null && this.#chosen !== before) this.#follow(this.#words[this.#chosen]!);
  }

  /** Scrolls the text, but not the page, to a word that was selected elsewhere. */
  #follow({ offsetTop, offsetHeight }: HTMLElement) {
    const { scrollTop, clientHeight } = this.element;
    const visible = offsetTop >= scrollTop && offsetTop + offsetHeight <= scrollTop + clientHeight;
    if (!visible) this.element.scrollTop = offsetTop - clientHeight / 2;
  }

  #colourWords(signed: boolean, theme: Theme) {
    const weights = this.#weights;
    const scale = scaleOf(theme, signed, weights ? fullOfRow(weights, this.#sink) : 1);
    // The faintest levels look like the page and keep its text colour.
    const faint = signed ? 14 : 24;
    this.#words.forEach((word, unit) => {
      const level = weights && unit !== this.#sink ? scale.level(weights[unit]!) : scale.none;
      const colour = Math.abs(level - scale.none) < faint ? undefined : scale.map[level]!;
      if (colour === this.#colours[unit]) return; // few of thousands of words change
      this.#colours[unit] = colour;
      word.style.background = colour ? css(colour) : "";
      word.style.color = colour ? textColour(colour) : "";
    });
  }

  #build() {
    const { row } = this;
    this.#words = [];
    this.#colours = [];
    this.element.replaceChildren();
    let group: HTMLElement = this.element;
    let open = "";
    for (let unit = 0; unit < this.#units.length; unit++) {
      const [token] = this.#units.tokens(unit);
      const mark = row.marks.find(([, start, stop]) => token >= start && token < stop);
      const written = this.written !== null && token >= this.written;
      const name = mark ? `your text: ${mark[0]}` : written ? "written by the model" : "";
      if (name !== open) {
        group = this.element;
        if (name) {
          const kind = mark ? "mark" : "written";
          group = h("span", { class: kind, role: "group", "aria-label": name });
          this.element.append(group);
        }
        open = name;
      }
      group.append(...this.#word(unit));
    }
  }

  #word(unit: number): (Node | string)[] {
    const { text, tokens, spans, special } = this.row;
    const [token, stop] = this.#units.tokens(unit);
    const before = token > 0 ? spans[token - 1]![1] : 0;
    const gap = spans[token]![0] > before ? text.slice(before, spans[token]![0]) : "";
    const own = this.#units.text(unit);
    const single = stop - token === 1;
    const shown =
      single && isContinuation(token, this.row) ? "·" : own.replace(/\r?\n/g, "⏎");
    const word = h(
      "span",
      {
        role: "option",
        class: special.includes(token) ? "token special" : "token",
        tabindex: -1,
        "aria-selected": "false",
        "data-unit": unit,
        "aria-label": own.trim() ? undefined : this.#units.label(unit),
        title: single ? `token ${token}` : `tokens ${token} to ${stop - 1}: ${tokens.slice(token, stop).join("|")}`,
      },
      shown,
    );
    this.#words.push(word);
    const breaks = own.split("\n").length - 1;
    return [
      ...(gap ? [gap] : []),
      word,
      ...Array.from({ length: Math.min(breaks, 2) }, () => h("br", { "aria-hidden": true })),
    ];
  }

  #at(event: Event): number | undefined {
    const word = (event.target as Element).closest<HTMLElement>("[data-unit]");
    return word ? Number(word.dataset.unit) : undefined;
  }

  #choose(unit: number, second: boolean) {
    this.#words[unit]!.focus({ preventScroll: false });
    this.select(this.#units.tokens(unit)[0], second);
  }

  #key(event: KeyboardEvent) {
    const last = this.#words.length - 1;
    const here = this.#at(event) ?? this.#chosen ?? 0;
    const steps: Record<string, () => number> = {
      ArrowLeft: () => here - 1,
      ArrowRight: () => here + 1,
      ArrowUp: () => this.#vertical(here, -1),
      ArrowDown: () => this.#vertical(here, 1),
      Home: () => 0,
      End: () => last,
      Enter: () => here,
      " ": () => here,
    };
    const next = steps[event.key];
    if (!next) return;
    event.preventDefault();
    event.stopPropagation(); // else JupyterLab moves to the next cell
    this.#choose(Math.max(0, Math.min(last, next())), event.shiftKey);
  }

  /** Returns the nearest word in the line above or below. */
  #vertical(from: number, step: 1 | -1): number {
    const origin = this.#words[from]!;
    let found = from;
    let [line, distance] = [origin.offsetTop, Infinity];
    for (let at = from + step; at >= 0 && at < this.#words.length; at += step) {
      const word = this.#words[at]!;
      if (word.offsetTop === origin.offsetTop) continue;
      if (line === origin.offsetTop) line = word.offsetTop;
      if (word.offsetTop !== line) break;
      const away = Math.abs(word.offsetLeft - origin.offsetLeft);
      if (away < distance) [found, distance] = [at, away];
    }
    return found;
  }
}
