// The attention viewer. Layer, head and token are traits shared with Python and with every
// other view of the same widget; all numbers are asked for when they come on screen.

import type { AnyModel, Render } from "@anywidget/types";

import { h } from "../shared/dom";
import { Kernel } from "../shared/kernel";
import { onTheme, themeOf } from "../shared/theme";
import { HeadsGrid } from "./heads";
import { gap, label, percent, shares } from "./layout";
import { Lines } from "./lines";
import { Matrix } from "./matrix";
import { type Head, type Outline, Recording } from "./recording";
import { Words } from "./words";

interface State {
  layer: number;
  head: number;
  token: number | null;
}

type Model = AnyModel<State>;

const NAMES = { yours: "your text", rest: "other tokens", sink: "sink" } as const;

class View {
  #model: Model;
  #recording: Recording;
  #root: HTMLElement;
  #grid: HeadsGrid;
  #matrix: Matrix;
  #lines: Lines;
  #words: Words;
  #inputs: Record<"layer" | "head", HTMLInputElement>;
  #flow = h("div", { class: "flow" });
  #about = h("div", { class: "about", "aria-live": "polite" });
  #hover = h("span", { class: "hover" });
  #status: HTMLElement;
  #revealed = false;

  constructor(model: Model, root: HTMLElement, recording: Recording, status: HTMLElement) {
    const { outline } = recording;
    this.#model = model;
    this.#root = root;
    this.#recording = recording;
    this.#status = status;
    const toToken = (token: number | null) => this.#set({ token });
    this.#grid = new HeadsGrid(recording, (head) => this.#set({ ...head }));
    this.#matrix = new Matrix(recording, toToken);
    this.#lines = new Lines(outline, toToken);
    this.#words = new Words(outline, toToken, (message) => {
      this.#hover.textContent = message;
    });
    this.#inputs = {
      layer: this.#number("layer", outline.layers),
      head: this.#number("head", outline.heads),
    };
    root.setAttribute("aria-label", `Attention of ${outline.model}`);
    root.append(this.#header(outline), this.#body(outline));
  }

  #header(outline: Outline): HTMLElement {
    const count = outline.tokens.length;
    const control = (name: "layer" | "head", last: number) =>
      h(
        "label",
        {},
        name === "layer" ? "Layer" : "Head",
        this.#inputs[name],
        h("span", { class: "size" }, `0–${last}`),
      );
    return h(
      "div",
      { class: "header" },
      h("span", { class: "name" }, outline.model),
      h("span", { class: "size" }, `${count.toLocaleString("en")} token${count === 1 ? "" : "s"}`),
      h("span", { class: "size" }, `checked against the model's own attention: within ${gap(outline.closure)}`),
      h("span", { class: "spring" }),
      control("layer", outline.layers - 1),
      control("head", outline.heads - 1),
    );
  }

  #body(outline: Outline): HTMLElement {
    const caption = (title: string, ...more: (Node | string)[]) =>
      h("div", { class: "caption" }, h("b", {}, title), " ", ...more);
    return h(
      "div",
      { class: "body" },
      caption("All heads", h("span", {}, "layers from left to right, heads from top to bottom")),
      h("div", { class: "top" }, this.#grid.element, this.#about),
      caption(
        "Words",
        h("span", {}, this.#wordsHint(outline)),
        h("span", { class: "spring" }),
        this.#hover,
      ),
      this.#words.element,
      this.#flow,
      h(
        "div",
        { class: "pair" },
        h("div", { class: "panel" }, caption("Matrix"), this.#matrix.element),
        h("div", { class: "panel" }, caption("Lines"), this.#lines.element),
      ),
    );
  }

  #wordsHint(outline: Outline): string {
    const framed = outline.marks.length ? "; your own text is framed" : "";
    return `choose a token, and its attention is painted on the words${framed}`;
  }

  #number(name: "layer" | "head", count: number): HTMLInputElement {
    const input = h("input", { type: "number", min: 0, max: count - 1, step: 1 });
    input.addEventListener("keydown", (event) => event.stopPropagation());
    input.addEventListener("change", () => {
      const value = input.valueAsNumber;
      const usable = Number.isInteger(value) && value >= 0 && value < count;
      if (usable) this.#set({ [name]: value });
      else input.value = String(this.#model.get(name));
    });
    return input;
  }

  #set(change: Partial<State>) {
    for (const [name, value] of Object.entries(change)) {
      this.#model.set(name as keyof State, value as never);
    }
    this.#model.save_changes();
  }

  /** Follows the model, the theme and the room there is, until the returned function is called. */
  start(): () => void {
    const change = () => void this.#update();
    const traits = ["change:layer", "change:head", "change:token"] as const;
    for (const trait of traits) this.#model.on(trait, change);
    const stopTheme = onTheme(() => this.#layOut());
    let seen = 0;
    const sizes = new ResizeObserver(() => {
      const width = this.#root.clientWidth;
      if (width && width !== seen) {
        seen = width;
        this.#layOut();
      }
    });
    sizes.observe(this.#root);
    void this.#grid.load(this.#model.get("layer")).catch((error: Error) => this.#fail(error));
    return () => {
      for (const trait of traits) this.#model.off(trait, change);
      stopTheme();
      sizes.disconnect();
    };
  }

  #layOut() {
    const theme = themeOf(this.#root);
    this.#root.classList.toggle("dark", theme.dark);
    this.#grid.layOut(this.#root.clientWidth - 28, theme);
    const [matrix, lines] = this.#root.querySelectorAll<HTMLElement>(".panel");
    this.#matrix.layOut(matrix!.clientWidth);
    this.#lines.layOut(lines!.clientWidth);
    void this.#update();
  }

  async #update() {
    if (!this.#root.clientWidth) return; // hidden: drawn when it has a size
    const state = { layer: this.#model.get("layer"), head: this.#model.get("head") };
    const token = this.#model.get("token");
    this.#grid.show(state);
    this.#inputs.layer.value = String(state.layer);
    this.#inputs.head.value = String(state.head);
    const [start, stop] = this.#lines.range(token);
    try {
      const [picture, rows] = await Promise.all([
        this.#recording.picture(state, this.#matrix.resolution),
        this.#recording.rows(state, start, stop),
      ]);
      const now = this.#model;
      const late =
        now.get("layer") !== state.layer ||
        now.get("head") !== state.head ||
        now.get("token") !== token;
      if (late) return;
      const theme = themeOf(this.#root);
      const row = token === null ? undefined : rows[token - start];
      this.#matrix.show(state, picture, token, theme);
      this.#lines.show(rows, token);
      this.#words.show(token, row, theme);
      if (!this.#revealed) this.#words.reveal();
      this.#revealed = true;
      this.#tell(state, picture.sinkShare, token, row);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  /** Says in words what is on screen. */
  #tell(head: Head, sinkShare: number | null, token: number | null, row: Float32Array | undefined) {
    const { outline } = this.#recording;
    const [openedToken, layer, number, share] = outline.opened;
    const opened = head.layer === layer && head.head === number && token === openedToken;
    const aim = outline.marks.length ? "your text" : "the words";
    const sink = sinkShare === null ? "" : `“${label(outline.sink!, outline)}”`;
    const sentences = [
      `Layer ${head.layer}, head ${head.head}.`,
      opened &&
        share > 0.005 &&
        `The view opens here because, in the upper half of the layers, this head puts the most weight (${percent(share)}) from the ${outline.causal ? "last" : "first"} token on ${aim}.`,
      sinkShare !== null &&
        `Averaged over its queries, ${percent(sinkShare)} of its weight rests on ${sink}: a sink, which takes weight in most heads whatever the text says. The colour scales are set by the other tokens.`,
    ];
    this.#about.replaceChildren(
      ...sentences.filter((sentence) => sentence !== false).map((sentence) => h("p", {}, sentence)),
    );
    if (!row || token === null) {
      this.#flow.replaceChildren("No token is selected.");
      return;
    }
    const parts = shares(row, outline);
    this.#flow.replaceChildren(
      h("span", { class: "from" }, "From ", h("b", {}, label(token, outline)), ` (token ${token}) to`),
      ...parts.map(({ name, weight }) =>
        h(
          "span",
          { class: "part" },
          h("span", { class: `swatch ${name}`, style: `width:${Math.max(2, 120 * weight)}px` }),
          `${NAMES[name]} ${percent(weight)}`,
        ),
      ),
    );
  }

  #fail(error: Error) {
    this.#status.textContent = error.message;
    this.#status.hidden = false;
  }
}

const render: Render<State> = ({ model, el }) => {
  const status = h("p", { class: "status", role: "status", hidden: true });
  const root = h("div", { class: "nbllm-attention", role: "group", "aria-label": "Attention" }, status);
  el.append(root);
  const kernel = new Kernel(model as never, (busy) => {
    status.textContent = busy
      ? "Waiting for the kernel: it is busy with another cell, or it has stopped."
      : "";
    status.hidden = !busy;
  });
  let stop = () => {};
  let gone = false;
  Recording.open(kernel)
    .then((recording) => {
      if (!gone) stop = new View(model, root, recording, status).start();
    })
    .catch((error: Error) => {
      status.textContent = error.message;
      status.hidden = false;
    });
  return () => {
    gone = true;
    stop();
    kernel.close();
  };
};

export default { render };
