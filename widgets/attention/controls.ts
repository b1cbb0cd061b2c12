// The bar above the panels: what is shown, by number and by name.

import { h } from "../shared/dom";
import { gap } from "./layout";
import { titleOf } from "./measures";
import { type Contents, type Outline } from "./recording";
import { isCompared, type State } from "./state";

const HOW = { head: "one head", mean: "mean of heads", max: "max of heads" };
const PARTS: Record<string, string> = {
  encoder: "encoder",
  decoder: "decoder",
  cross: "decoder to encoder",
};

type Set = (change: Partial<State>) => void;

export class Controls {
  readonly element: HTMLElement;
  #layer: HTMLInputElement;
  #head: HTMLInputElement;
  #ranges = { layer: h("span", { class: "size" }), head: h("span", { class: "size" }) };
  #how: HTMLSelectElement;
  #part: HTMLSelectElement;
  #side: HTMLSelectElement;
  #measure: HTMLSelectElement;
  #offered: string | undefined;
  #mask: HTMLInputElement;
  #words: HTMLInputElement;
  #log: HTMLInputElement;
  #name = h("span", { class: "name" });
  #about = h("span", { class: "size" });
  #outline: Outline | undefined;
  #state: State | undefined;

  constructor(
    private contents: Contents,
    private set: Set,
  ) {
    this.#layer = this.#number("layer", (layer) => this.#outline!.layers.includes(layer));
    this.#head = this.#number("head", (head) => head >= 0 && head < this.#outline!.heads);
    this.#how = this.#choice(HOW, (how) => ({ how: how as State["how"] }));
    this.#part = this.#choice(
      Object.fromEntries(contents.parts.map((part) => [part, PARTS[part] ?? part])),
      (part) => ({ part, token: null, key: null, window: null }),
    );
    this.#side = this.#choice(
      Object.fromEntries(contents.sides.map((side) => [side, sideName(side, contents)])),
      (side) => ({ side, token: null, key: null, window: null }),
    );
    this.#measure = h("select", {});
    this.#measure.addEventListener("change", () => this.set({ measure: this.#measure.value || null }));
    this.#quiet(this.#measure);
    this.#mask = this.#toggle((mask_sink) => ({ mask_sink }));
    this.#words = this.#toggle((words) => ({ words }));
    this.#log = this.#toggle((on) => ({ scale: on ? "log" : "sqrt" }));
    this.element = h(
      "div",
      { class: "header" },
      this.#name,
      this.#about,
      h("span", { class: "spring" }),
      this.#field("Part", this.#part, contents.parts.length > 1),
      this.#field("Compare", this.#side, isCompared(contents)),
      h("label", {}, "Layer", this.#layer, this.#ranges.layer),
      h("label", {}, "Head", this.#head, this.#ranges.head),
      this.#field("Show", this.#how, true),
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
    this.#how.value = state.how;
    this.#part.value = outline.part;
    this.#side.value = outline.side;
    this.#offer(outline, Object.keys(state.measured[outline.part] ?? {}));
    if (!outline.signed) this.#measure.value = state.measure ?? "";
    this.#mask.checked = state.mask_sink;
    this.#words.checked = state.words;
    this.#log.checked = state.scale === "log";
    this.#head.disabled = state.how !== "head";
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
      ? sideName(outline.side, this.contents)
      : outline.model;
    this.#about.textContent = outline.signed
      ? `${size} that both have`
      : `${size}, checked against the model's own attention: within ${gap(outline.closure)}`;
    this.#ranges.layer.textContent = `${layers[0]}–${layers.at(-1)}`;
    this.#ranges.head.textContent = `0–${heads - 1}`;
    this.#layer.min = String(layers[0]);
    this.#layer.max = String(layers.at(-1));
    this.#head.max = String(heads - 1);
    this.#mask.disabled = outline.sink === null;
  }

  /** What the heads can be sorted by: the measures of the sheet, and more that were given. */
  #offer({ signed, measures }: Outline, more: string[]) {
    const names = signed ? measures : ["", ...new Set([...measures, ...more])];
    if (names.join("\n") === this.#offered) return;
    this.#offered = names.join("\n");
    this.#measure.replaceChildren(
      ...names.map((name) => h("option", { value: name }, name ? titleOf(name) : "their number")),
    );
  }

  #field(name: string, control: HTMLElement, on: boolean): HTMLElement {
    return h("label", { hidden: !on }, name, control);
  }

  #number(name: "layer" | "head", usable: (value: number) => boolean): HTMLInputElement {
    const input = h("input", { type: "number", min: 0, step: 1 });
    input.addEventListener("change", () => {
      if (usable(input.valueAsNumber)) this.set({ [name]: input.valueAsNumber });
      else input.value = String(this.#state![name]);
    });
    this.#quiet(input);
    return input;
  }

  #choice(options: Record<string, string>, change: (value: string) => Partial<State>) {
    const made = Object.entries(options).map(([value, name]) => h("option", { value }, name));
    const select = h("select", {}, ...made);
    select.addEventListener("change", () => this.set(change(select.value)));
    this.#quiet(select);
    return select;
  }

  #toggle(change: (on: boolean) => Partial<State>): HTMLInputElement {
    const box = h("input", { type: "checkbox" });
    box.addEventListener("change", () => this.set(change(box.checked)));
    this.#quiet(box);
    return box;
  }

  /** Keys meant for a control are not JupyterLab's. */
  #quiet(control: HTMLElement) {
    control.addEventListener("keydown", (event) => event.stopPropagation());
  }
}

export function sideName(side: string, { sides, models }: Contents): string {
  const named = (name: string) => {
    const at = sides.indexOf(name);
    return models[0] === models[1] ? name : `${name} (${models[at]})`;
  };
  return side === "difference" ? "difference, b − a" : named(side);
}
