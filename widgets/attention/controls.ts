// The toolbar above the panels: source, layer, head, sorting and display options.

import { h } from "../shared/dom";
import type { Comparand } from "../shared/protocol";
import { formatError } from "./layout";
import { titleOf } from "./measures";
import { type Contents, type Outline } from "./source";
import { isCompared, type State } from "./state";

const REDUCES = { head: "one head", mean: "mean of heads", max: "max of heads" };
const STACKS: Record<string, string> = {
  encoder: "encoder",
  decoder: "decoder",
  cross: "decoder to encoder",
};

type SetState = (change: Partial<State>) => void;

export class Controls {
  readonly element: HTMLElement;
  #layer: HTMLInputElement;
  #head: HTMLInputElement;
  #ranges = { layer: h("span", { class: "size" }), head: h("span", { class: "size" }) };
  #reduce: HTMLSelectElement;
  #stack: HTMLSelectElement;
  #comparand: HTMLSelectElement;
  #measure: HTMLSelectElement;
  #listed: string | undefined;
  #mask: HTMLInputElement;
  #words: HTMLInputElement;
  #log: HTMLInputElement;
  #name = h("span", { class: "name" });
  #about = h("span", { class: "size" });
  #outline: Outline | undefined;
  #state: State | undefined;

  constructor(
    private contents: Contents,
    private set: SetState,
  ) {
    this.#layer = this.#number("layer", (layer) => this.#outline!.layers.includes(layer));
    this.#head = this.#number("head", (head) => head >= 0 && head < this.#outline!.heads);
    this.#reduce = this.#choice(REDUCES, (reduce) => ({ reduce: reduce as State["reduce"] }));
    this.#stack = this.#choice(
      Object.fromEntries(contents.stacks.map((stack) => [stack, STACKS[stack] ?? stack])),
      (stack) => ({ stack, token: null, key: null, window: null }),
    );
    this.#comparand = this.#choice(
      Object.fromEntries(contents.comparands.map((comparand) => [comparand, comparandName(comparand, contents)])),
      (comparand) => ({ comparand: comparand as Comparand, token: null, key: null, window: null }),
    );
    this.#measure = h("select", {});
    this.#measure.addEventListener("change", () => this.set({ measure: this.#measure.value || null }));
    this.#keepKeys(this.#measure);
    this.#mask = this.#toggle((mask_sink) => ({ mask_sink }));
    this.#words = this.#toggle((words) => ({ words }));
    this.#log = this.#toggle((on) => ({ scale: on ? "log" : "sqrt" }));
    this.element = h(
      "div",
      { class: "header" },
      this.#name,
      this.#about,
      h("span", { class: "spring" }),
      this.#field("Part", this.#stack, contents.stacks.length > 1),
      this.#field("Compare", this.#comparand, isCompared(contents)),
      h("label", {}, "Layer", this.#layer, this.#ranges.layer),
      h("label", {}, "Head", this.#head, this.#ranges.head),
      this.#field("Show", this.#reduce, true),
      this.#field("Sort heads by", this.#measure, true),
      h("label", {}, this.#mask, "mask the sink"),
      h("label", {}, this.#words, "whole words"),
      h("label", { title: "Colour by the logarithm of a weight: what is a hundredth of the largest has half the colour" }, this.#log, "log colours"),
    );
  }

  show(state: State, outline: Outline) {
    if (outline !== this.#outline) this.#open(outline);
    this.#state = state;
    this.#layer.value = String(state.layer);
    this.#head.value = String(state.head);
    this.#reduce.value = state.reduce;
    this.#stack.value = outline.stack;
    this.#comparand.value = outline.comparand;
    this.#listMeasures(outline, Object.keys(state.measured[outline.stack] ?? {}));
    if (!outline.signed) this.#measure.value = state.measure ?? "";
    this.#mask.checked = state.mask_sink;
    this.#words.checked = state.words;
    this.#log.checked = state.scale === "log";
    this.#head.disabled = state.reduce !== "head";
  }

  #open(outline: Outline) {
    this.#outline = outline;
    const { queries, keys, layers, heads } = outline;
    const tokens = (count: number) => `${count.toLocaleString("en")} token${count === 1 ? "" : "s"}`;
    const size =
      queries === keys
        ? tokens(queries.tokens.length)
        : `${tokens(queries.tokens.length)} look at ${tokens(keys.tokens.length)}`;
    this.#name.textContent = isCompared(this.contents)
      ? comparandName(outline.comparand, this.contents)
      : outline.model;
    this.#about.textContent = outline.signed
      ? `${size} that both have`
      : `${size}, checked against the model's own attention: within ${formatError(outline.closure)}`;
    this.#ranges.layer.textContent = `${layers[0]}–${layers.at(-1)}`;
    this.#ranges.head.textContent = `0–${heads - 1}`;
    this.#layer.min = String(layers[0]);
    this.#layer.max = String(layers.at(-1));
    this.#head.max = String(heads - 1);
    this.#mask.disabled = outline.sink === null;
  }

  /** Lists the measures that sort the heads: those of the source, and those set from Python. */
  #listMeasures({ signed, measures }: Outline, own: string[]) {
    const names = signed ? measures : ["", ...new Set([...measures, ...own])];
    if (names.join("\n") === this.#listed) return;
    this.#listed = names.join("\n");
    this.#measure.replaceChildren(
      ...names.map((name) => h("option", { value: name }, name ? titleOf(name) : "their number")),
    );
  }

  #field(name: string, control: HTMLElement, on: boolean): HTMLElement {
    return h("label", { hidden: !on }, name, control);
  }

  #number(name: "layer" | "head", isValid: (value: number) => boolean): HTMLInputElement {
    const input = h("input", { type: "number", min: 0, step: 1 });
    input.addEventListener("change", () => {
      if (isValid(input.valueAsNumber)) this.set({ [name]: input.valueAsNumber });
      else input.value = String(this.#state![name]);
    });
    this.#keepKeys(input);
    return input;
  }

  #choice(options: Record<string, string>, change: (value: string) => Partial<State>) {
    const items = Object.entries(options).map(([value, name]) => h("option", { value }, name));
    const select = h("select", {}, ...items);
    select.addEventListener("change", () => this.set(change(select.value)));
    this.#keepKeys(select);
    return select;
  }

  #toggle(change: (on: boolean) => Partial<State>): HTMLInputElement {
    const box = h("input", { type: "checkbox" });
    box.addEventListener("change", () => this.set(change(box.checked)));
    this.#keepKeys(box);
    return box;
  }

  /** Keeps the keys pressed in a control from JupyterLab's shortcuts. */
  #keepKeys(control: HTMLElement) {
    control.addEventListener("keydown", (event) => event.stopPropagation());
  }
}

export function comparandName(comparand: Comparand, { comparands, models }: Contents): string {
  const withModel = (name: Comparand) => {
    const at = comparands.indexOf(name);
    return models[0] === models[1] ? name : `${name} (${models[at]})`;
  };
  return comparand === "difference" ? "difference, b − a" : withModel(comparand);
}
