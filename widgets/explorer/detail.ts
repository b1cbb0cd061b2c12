// The row in focus: its full texts and probabilities, and buttons to correct and explain it.

import { h } from "../shared/dom";
import type { RowDetails } from "../shared/protocol";
import { keysOf } from "./keys";
import type { Kernel, Outline } from "./outline";
import type { Row } from "./rows";

const DELAY = 60; // ms, so that a held arrow key requests only its last row

const key = (name: string) => h("kbd", {}, name);

/** Buttons with their keys: labels, undo and explain. */
export class Legend {
  element: HTMLElement;
  #buttons = new Map<string, HTMLButtonElement>();
  #undo = h("button", { type: "button", disabled: true }, key("⌫"), " undo");
  #explain = h("button", { type: "button", class: "primary" }, key("Enter"), " why this answer?");

  constructor(outline: Outline, correct: (label: string) => void, undo: () => void, explain: () => void) {
    const labels = [...keysOf(outline.choices)].map(([name, label]) => {
      const button = h("button", { type: "button", "aria-pressed": "false" }, key(name), ` ${label}`);
      button.addEventListener("click", () => correct(label));
      this.#buttons.set(label, button);
      return button;
    });
    this.#undo.addEventListener("click", undo);
    this.#explain.addEventListener("click", explain);
    this.element = h(
      "div",
      { class: "legend", role: "toolbar", "aria-label": "Row in focus" },
      ...(labels.length ? [h("span", { class: "dim" }, "The right label is"), ...labels, this.#undo] : []),
      h("span", { class: "spring" }),
      this.#explain,
    );
  }

  show(row: Row | undefined, undoable: boolean) {
    for (const [label, button] of this.#buttons) {
      button.setAttribute("aria-pressed", String(row?.correction === label));
      button.disabled = !row;
    }
    this.#undo.disabled = !undoable;
    this.#explain.disabled = !row;
  }
}

export class Detail {
  element = h("div", {
    class: "detail", role: "region", "aria-label": "Row in focus, in full", tabindex: 0,
  });
  #timer = 0;
  #turn = 0;

  constructor(private kernel: Kernel, private fail: (error: Error) => void) {}

  show(row: Row | undefined) {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    if (!row) {
      this.element.replaceChildren(h("p", { class: "dim" }, "No row is left by the filter."));
      return;
    }
    this.#timer = window.setTimeout(() => {
      this.kernel
        .request({ kind: "row", row: row.row })
        .then(({ content }) => {
          if (turn === this.#turn) this.#fill(content);
        })
        .catch(this.fail);
    }, DELAY);
  }

  #fill(details: RowDetails) {
    const texts = details.texts.map(({ name, role, text }) =>
      h("div", { class: `field ${role}` }, h("div", { class: "dim" }, name), h("p", {}, text)),
    );
    const chances = [...details.probabilities]
      .sort((a, b) => b[1] - a[1])
      .map(([label, chance]) =>
        h(
          "div",
          { class: "chance" },
          h("span", {}, label),
          h("span", { class: "bar" }, h("span", { style: `width:${(100 * chance).toFixed(1)}%` })),
          h("span", { class: "number" }, chance.toFixed(3)),
        ),
      );
    const about = [`Row ${details.index}`];
    if (details.truth !== null) about.push(`truth: ${details.truth}`);
    this.element.replaceChildren(
      h("div", { class: "texts" }, h("div", { class: "about" }, about.join(" · ")), ...texts),
      ...(chances.length ? [h("div", { class: "chances" }, h("div", { class: "dim" }, "probability"), ...chances)] : []),
    );
    this.element.scrollTop = 0;
    this.element.dataset.row = String(details.row);
  }
}
