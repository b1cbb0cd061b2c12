// The text itself: choose a token as query, and see its weights painted on the words.

import { css, ink, level } from "../shared/colour";
import { h } from "../shared/dom";
import type { Theme } from "../shared/theme";
import { fullOfRow, isContinuation, label, weightText } from "./layout";
import type { Outline } from "./recording";

export class Words {
  readonly element: HTMLElement;
  #words: HTMLElement[] = [];
  #token: number | null = null;
  #weights: Float32Array | undefined;

  constructor(
    private outline: Outline,
    private select: (token: number) => void,
    private onHover: (message: string) => void,
  ) {
    this.element = h("div", {
      class: "words",
      role: "listbox",
      dir: "auto",
      "aria-label": "The text. Select the token whose attention is painted on the words.",
    });
    let group: HTMLElement = this.element;
    outline.tokens.forEach((_, token) => {
      const mark = outline.marks.find(([, start, stop]) => token >= start && token < stop);
      if (mark && token === mark[1]) {
        group = h("span", { class: "mark", role: "group", "aria-label": `your text: ${mark[0]}` });
        this.element.append(group);
      } else if (!mark) {
        group = this.element;
      }
      group.append(...this.#word(token));
    });
    this.element.classList.toggle("marked", outline.marks.length > 0);
    this.element.addEventListener("click", (event) => {
      const token = this.#at(event);
      if (token !== undefined) this.#go(token);
    });
    this.element.addEventListener("pointerover", (event) => {
      const token = this.#at(event);
      if (token !== undefined && this.#weights) {
        this.onHover(`“${label(token, outline)}” gets ${weightText(this.#weights[token]!)}`);
      }
    });
    this.element.addEventListener("pointerleave", () => this.onHover(""));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Brings the user's own text into view, else the selected token. */
  reveal() {
    const target =
      this.element.querySelector<HTMLElement>(".mark") ?? this.#words[this.#token ?? 0];
    if (target) this.element.scrollTop = Math.max(0, target.offsetTop - 12);
  }

  show(token: number | null, weights: Float32Array | undefined, theme: Theme) {
    this.#words.forEach((word, at) => {
      word.setAttribute("aria-selected", String(at === token));
      word.tabIndex = at === (token ?? 0) ? 0 : -1;
    });
    this.#token = token;
    this.#weights = weights;
    const full = weights ? fullOfRow(weights, this.outline.sink) : 1;
    this.#words.forEach((word, at) => {
      const painted = weights ? level(weights[at]!, full) : 0;
      const isSink = at === this.outline.sink;
      word.classList.toggle("sink", isSink && weights !== undefined);
      // The faintest levels are the colour of the page: they keep the page's own ink.
      const colour = painted < 24 || isSink ? undefined : theme.map[painted]!;
      word.style.background = colour ? css(colour) : "";
      word.style.color = colour ? ink(colour) : "";
    });
  }

  #word(token: number): (Node | string)[] {
    const { outline } = this;
    const text = outline.tokens[token]!;
    const [start] = outline.spans[token]!;
    const before = token > 0 ? outline.spans[token - 1]![1] : 0;
    const gap = start > before ? outline.text.slice(before, start) : "";
    const shown = isContinuation(token, outline) ? "·" : text.replace(/\r?\n/g, "⏎");
    const word = h(
      "span",
      {
        role: "option",
        class: outline.special[token] ? "token special" : "token",
        "data-token": token,
        "aria-label": text.trim() ? undefined : label(token, outline),
      },
      shown,
    );
    this.#words.push(word);
    const breaks = text.split("\n").length - 1;
    return [
      ...(gap ? [gap] : []),
      word,
      ...Array.from({ length: Math.min(breaks, 2) }, () => h("br", { "aria-hidden": true })),
    ];
  }

  #at(event: Event): number | undefined {
    const word = (event.target as Element).closest<HTMLElement>("[data-token]");
    return word ? Number(word.dataset.token) : undefined;
  }

  #go(token: number) {
    this.select(token);
    this.#words[token]!.focus({ preventScroll: false });
  }

  #key(event: KeyboardEvent) {
    const last = this.#words.length - 1;
    const here = this.#at(event) ?? this.#token ?? 0;
    const steps: Record<string, number> = {
      ArrowLeft: here - 1,
      ArrowRight: here + 1,
      ArrowUp: this.#vertical(here, -1),
      ArrowDown: this.#vertical(here, 1),
      Home: 0,
      End: last,
      Enter: here,
      " ": here,
    };
    const next = steps[event.key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation(); // else JupyterLab moves to the next cell
    this.#go(Math.max(0, Math.min(last, next)));
  }

  /** The token in the line above or below that lies nearest. */
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
