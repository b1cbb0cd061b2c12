// A text, token by token or word by word: choose one, and see weights painted on them.

import { css, ink, type RGB } from "../shared/colour";
import { h } from "../shared/dom";
import type { TokenFields } from "../shared/protocol";
import { scaleOf, type Theme } from "../shared/theme";
import { fullOfRow, isContinuation, weightText } from "./layout";
import type { Units } from "./units";

const BOXFUL = 3000; // characters

export class Words {
  readonly element: HTMLElement;
  readonly row: TokenFields;
  #units: Units; // tokens, until told otherwise
  #words: HTMLElement[] = [];
  #painted: (RGB | undefined)[] = [];
  #chosen: number | null = null; // a unit
  #second: number | null = null;
  #weights: Float32Array | undefined;
  #sink: number | null = null;

  constructor(
    tokens: Units,
    private written: number | null, // from this token on the model wrote itself
    label: string,
    private select: (token: number, second: boolean) => void,
    private onHover: (message: string) => void,
  ) {
    this.element = h("div", { class: "words", role: "listbox", dir: "auto", "aria-label": label });
    this.row = tokens.row;
    this.#units = tokens;
    // Thousands of words take longer than the matrix, which is not to wait for them: until then
    // as much of the text as its box shows.
    this.element.append(this.row.text.slice(0, BOXFUL));
    this.element.classList.toggle("marked", this.row.marks.length > 0);
    this.element.addEventListener("click", (event) => {
      const unit = this.#at(event);
      if (unit !== undefined) this.#go(unit, event.shiftKey);
    });
    this.element.addEventListener("pointerover", (event) => {
      const unit = this.#at(event);
      if (unit === undefined || !this.#weights) return;
      this.onHover(`“${this.#units.label(unit)}” gets ${weightText(this.#weights[unit]!)}`);
    });
    this.element.addEventListener("pointerleave", () => this.onHover(""));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Joins tokens to words, or shows each token by itself. */
  set units(units: Units) {
    if (units === this.#units) return;
    this.#units = units;
    this.#chosen = null;
    this.#second = null;
    this.#words = [];
  }

  /** Brings the user's own text into view, else the selected token. */
  reveal() {
    const marked = this.element.querySelector<HTMLElement>(".mark");
    const target = marked ?? this.#words[this.#chosen ?? 0];
    if (target) this.element.scrollTop = Math.max(0, target.offsetTop - 12);
  }

  /** weights: of each unit, painted on it; token and second: the query and key to frame. */
  show(
    token: number | null,
    second: number | null,
    weights: Float32Array | undefined,
    sink: number | null,
    signed: boolean,
    theme: Theme,
  ) {
    if (!this.#words.length) this.#write();
    const frame = (unit: number | null, on: boolean) => {
      const word = unit === null ? undefined : this.#words[unit];
      word?.setAttribute("aria-selected", String(on));
      if (word) word.tabIndex = on ? 0 : -1;
    };
    frame(this.#chosen ?? 0, false);
    this.#words[this.#second ?? -1]?.classList.remove("key");
    const before = this.#chosen;
    [this.#chosen, this.#second] = [this.#units.unit(token), this.#units.unit(second)];
    frame(this.#chosen, true);
    if (this.#chosen === null) this.#words[0]!.tabIndex = 0;
    this.#words[this.#second ?? -1]?.classList.add("key");
    this.#words[this.#sink ?? -1]?.classList.remove("sink");
    this.#sink = weights ? this.#units.unit(sink) : null;
    this.#words[this.#sink ?? -1]?.classList.add("sink");
    this.#weights = weights;
    this.#paint(signed, theme);
    if (this.#chosen !== null && this.#chosen !== before) this.#follow(this.#words[this.#chosen]!);
  }

  /** Scrolls the text, and not the page, to a word that was chosen elsewhere. */
  #follow({ offsetTop, offsetHeight }: HTMLElement) {
    const { scrollTop, clientHeight } = this.element;
    const seen = offsetTop >= scrollTop && offsetTop + offsetHeight <= scrollTop + clientHeight;
    if (!seen) this.element.scrollTop = offsetTop - clientHeight / 2;
  }

  #paint(signed: boolean, theme: Theme) {
    const weights = this.#weights;
    const scale = scaleOf(theme, signed, weights ? fullOfRow(weights, this.#sink) : 1);
    // The faintest levels are the colour of the page: they keep the page's own ink.
    const faint = signed ? 14 : 24;
    this.#words.forEach((word, unit) => {
      const level = weights && unit !== this.#sink ? scale.level(weights[unit]!) : scale.none;
      const colour = Math.abs(level - scale.none) < faint ? undefined : scale.map[level]!;
      if (colour === this.#painted[unit]) return; // of thousands of words, few change
      this.#painted[unit] = colour;
      word.style.background = colour ? css(colour) : "";
      word.style.color = colour ? ink(colour) : "";
    });
  }

  #write() {
    const { row } = this;
    this.#words = [];
    this.#painted = [];
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

  #go(unit: number, second: boolean) {
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
    this.#go(Math.max(0, Math.min(last, next())), event.shiftKey);
  }

  /** The word in the line above or below that lies nearest. */
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
