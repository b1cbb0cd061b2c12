// Form fields for filter and sort, which also make the charts' filters accessible by keyboard.

import { h } from "../shared/dom";
import { formatNumber } from "../shared/format";
import type { Outline } from "./outline";
import { EMPTY, isOpen, type Query } from "./query";

const DELAY = 60; // ms after the last key press

const option = (value: string, text: string) => h("option", { value }, text);

/** A drop-down list of labels; shows "several" where the charts or Python selected more than one. */
class Labels {
  element: HTMLLabelElement;
  #list: HTMLSelectElement;
  #several = option("several", "several");

  constructor(name: string, any: string, private labels: string[], selected: (labels: string[]) => void) {
    this.#list = h("select", {}, option("", any));
    labels.forEach((label, place) => this.#list.append(option(String(place), label)));
    this.#list.addEventListener("change", () =>
      selected(this.#list.value === "" ? [] : [labels[Number(this.#list.value)]!]),
    );
    this.element = h("label", {}, name, this.#list);
  }

  show(selected: string[]) {
    if (selected.length > 1) this.#list.append(this.#several);
    else this.#several.remove();
    this.#list.value =
      selected.length > 1 ? "several" : selected.length ? String(this.labels.indexOf(selected[0]!)) : "";
  }
}

export class Filters {
  element: HTMLElement;
  #text: HTMLInputElement;
  #answer: Labels | undefined;
  #truth: Labels | undefined;
  #low: HTMLInputElement | undefined;
  #high: HTMLInputElement | undefined;
  #only: HTMLSelectElement;
  #sort: HTMLSelectElement;
  #order: HTMLButtonElement;
  #showAll: HTMLButtonElement;
  #count = h("output", { class: "count" });
  #query: Query = EMPTY;

  constructor(private outline: Outline, private set: (change: Partial<Query>) => void) {
    let timer = 0;
    this.#text = h("input", { type: "search", placeholder: "words in the text", "aria-label": "Text contains" });
    this.#text.addEventListener("input", () => {
      clearTimeout(timer);
      timer = window.setTimeout(() => set({ text: this.#text.value }), DELAY);
    });
    const parts: (Node | string)[] = [h("label", {}, "Find", this.#text)];
    if (outline.labels.length) {
      this.#answer = new Labels("Answer", "any", outline.labels, (labels) => set({ labels }));
      parts.push(this.#answer.element);
    }
    if (outline.truths.length) {
      this.#truth = new Labels("Truth", "any", outline.truths, (truths) => set({ truths }));
      parts.push(this.#truth.element);
    }
    if (outline.scored) {
      const field = (name: string) => {
        const input = h("input", { type: "number", step: "0.05", "aria-label": name });
        input.addEventListener("change", () => this.#setRange());
        return input;
      };
      this.#low = field("Score from");
      this.#high = field("Score to");
      parts.push(h("span", { class: "range" }, "Score", this.#low, "to", this.#high));
    }
    this.#only = h("select", {}, ...this.#statusOptions());
    this.#only.addEventListener("change", () => set({ only: (this.#only.value || null) as Query["only"] }));
    this.#sort = h("select", {}, option("", "frame's order"));
    outline.columns.forEach(({ name }, place) => this.#sort.append(option(String(place), name)));
    this.#sort.addEventListener("change", () =>
      set({ sort: this.#sort.value === "" ? null : outline.columns[Number(this.#sort.value)]!.name }),
    );
    this.#order = h("button", { type: "button", class: "down" }, "↑");
    this.#order.addEventListener("click", () => set({ descending: !this.#query.descending }));
    this.#showAll = h("button", { type: "button" }, "Show all");
    this.#showAll.addEventListener("click", () => {
      const { sort, descending, ...rest } = EMPTY;
      set(rest);
    });
    this.element = h(
      "div",
      { class: "filters", role: "search", "aria-label": "Filter and sort" },
      ...parts,
      h("label", {}, "Rows", this.#only),
      h("span", { class: "range" }, h("label", {}, "Sort", this.#sort), this.#order),
      this.#showAll,
      h("span", { class: "spring" }),
      this.#count,
    );
  }

  #statusOptions(): HTMLOptionElement[] {
    const { outline } = this;
    const parts = [option("", "all"), option("failed", `failed (${formatNumber(outline.failed)})`)];
    if (outline.unasked) parts.push(option("unasked", `not asked (${formatNumber(outline.unasked)})`));
    if (outline.truth !== null) {
      parts.push(option("wrong", `answer is not ${outline.truth} (${formatNumber(outline.wrong)})`));
    }
    if (outline.choices.length) parts.push(option("corrected", "corrected"));
    return parts;
  }

  #setRange() {
    const read = (field: HTMLInputElement, open: number) =>
      field.value === "" || Number.isNaN(field.valueAsNumber) ? open : field.valueAsNumber;
    const low = read(this.#low!, -1e9);
    const high = read(this.#high!, 1e9);
    if (low === -1e9 && high === 1e9) this.set({ score: null });
    else this.set({ score: low <= high ? [low, high] : [high, low] });
  }

  show(query: Query) {
    this.#query = query;
    if (document.activeElement !== this.#text) this.#text.value = query.text;
    this.#answer?.show(query.labels);
    this.#truth?.show(query.truths);
    const [low, high] = query.score ?? [-1e9, 1e9];
    if (this.#low) this.#low.value = low === -1e9 ? "" : String(Number(low.toFixed(4)));
    if (this.#high) this.#high.value = high === 1e9 ? "" : String(Number(high.toFixed(4)));
    this.#only.value = query.only ?? "";
    const sorted = this.outline.columns.findIndex(({ name }) => name === query.sort);
    this.#sort.value = sorted < 0 ? "" : String(sorted);
    this.#order.textContent = query.descending ? "↓" : "↑";
    const order = query.descending ? "descending" : "ascending";
    this.#order.setAttribute("aria-label", `${order}; turn the order round`);
    this.#order.title = `${order}; turn the order round`;
    this.#showAll.disabled = isOpen(query);
  }

  showCount(total: number) {
    const { size } = this.outline;
    this.#count.textContent =
      total === size ? `${formatNumber(size)} rows` : `${formatNumber(total)} of ${formatNumber(size)} rows`;
  }
}
