// The attention viewer. Its settings are synced with Python and with every other view of the same
// widget; numbers are requested when they come on screen.

import type { Render } from "@anywidget/types";

import { after, nextPaint } from "../shared/dom";
import { createFrame } from "../shared/frame";
import type { Channel } from "../shared/kernel";
import {
  type AttentionAnswers, type AttentionRequest, type Comparand, COMPARED_PIXELS, MATRIX_PIXELS,
} from "../shared/protocol";
import { onTheme, themeOf } from "../shared/theme";
import { Controls, comparandName } from "./controls";
import { Matrix } from "./matrix";
import { Panels } from "./panels";
import { wholeWords } from "./plot";
import { AttentionSource, type Contents, type Kernel, type Outline, outlineOf, pictureOf } from "./source";
import { fit, isCompared, mapState, type Model, read, selectionOf, type State, TRAITS, windowOf } from "./state";

const PADDING = 28;
const GRID_WAITS = 500; // ms that the grid of heads waits at most for the first matrices

/** The sources of a stack by comparand, with their matrices and the panels opened so far. */
interface Stack {
  sources: Map<Comparand, AttentionSource>;
  matrices: Map<Comparand, Matrix>;
  panels: Map<string, Panels>;
}

class View {
  #controls: Controls;
  #stacks = new Map<string, Stack>();
  #panels: Panels | undefined;
  #running = false;
  #again = false;

  constructor(
    private model: Model,
    private root: HTMLElement,
    private kernel: Kernel,
    private contents: Contents,
    private fail: (error: Error | null) => void,
  ) {
    this.#controls = new Controls(contents, (change) => this.#set(change));
    root.setAttribute("aria-label", `Attention of ${contents.models[0]}`);
    root.append(this.#controls.element);
  }

  #set(change: Partial<State>) {
    for (const [name, value] of Object.entries(change)) {
      this.model.set(name as keyof State, value as never);
    }
    this.model.save_changes();
  }

  /** Follows the model, the theme and the width, until the returned function is called. */
  start(): () => void {
    const change = () => void this.#update();
    for (const trait of TRAITS) this.model.on(`change:${trait}`, change);
    const stopTheme = onTheme(() => this.#layOut());
    let lastWidth = 0;
    const resize = () => {
      const width = this.root.clientWidth;
      if (width && width !== lastWidth) {
        lastWidth = width;
        this.#layOut();
      }
    };
    resize();
    const sizes = new ResizeObserver(resize);
    sizes.observe(this.root);
    return () => {
      for (const trait of TRAITS) this.model.off(`change:${trait}`, change);
      stopTheme();
      sizes.disconnect();
    };
  }

  get #theme() {
    return themeOf(this.root, this.model.get("scale"));
  }

  #layOut() {
    this.root.classList.toggle("dark", this.#theme.dark);
    this.#arrange();
    void this.#update();
  }

  #arrange() {
    if (!this.#panels) return;
    this.#panels.layOut(this.root.clientWidth - PADDING, this.#theme);
    for (const matrix of this.#stacks.get(this.#panels.source.outline.stack)!.matrices.values()) {
      matrix.layOut(matrix.element.clientWidth);
    }
  }

  /** Draws one state at a time; changes meanwhile are drawn together afterwards. */
  async #update() {
    if (!this.root.clientWidth) return; // hidden: drawn when it has a size
    this.#again = true;
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#again) {
        await Promise.resolve(); // traits of one change, such as layer and head, are set one by one
        this.#again = false;
        await this.#draw();
      }
    } catch (error) {
      this.fail(error as Error);
    }
    this.#running = false;
    if (this.#again) void this.#update();
  }

  async #draw() {
    const current = read(this.model);
    const stack = await this.#open(current.stack);
    const source = stack.sources.get(current.comparand)!;
    const state = fit(current, source.outline);
    const views = [...stack.matrices].map(([comparand, matrix]) => {
      const ownSource = stack.sources.get(comparand)!;
      const ownState = this.#mapped(state, source.outline, stack, comparand);
      const selection = selectionOf(ownState);
      const window = ownState.words ? wholeWords(windowOf(ownState), ownSource.units(true)) : windowOf(ownState);
      const request = ownSource.picture(selection, window, matrix.resolution);
      return { comparand, matrix, selection, words: ownState.words, token: ownState.token, key: ownState.key, request };
    });
    const panels = this.#showPanels(stack, source);
    this.#controls.show(state, source.outline);
    const theme = this.#theme;
    const pictures = views.map(async ({ comparand, matrix, request, ...view }) => {
      const picture = await request.catch((error: Error) => {
        matrix.clear();
        throw error;
      });
      matrix.show({ ...view, picture }, theme);
      if (comparand === current.comparand) panels.describe(state, picture);
    });
    const rowsRequest = panels.rows(state).catch((error: Error) => {
      panels.clearRows(state, theme);
      throw error;
    });
    const all = Promise.all([rowsRequest, ...pictures]);
    all.catch(() => {}); // awaited, and so thrown, below
    // Creating a thousand cells would delay the matrix.
    if (!panels.grid.isFilled) {
      await Promise.race([Promise.allSettled(pictures), after(GRID_WAITS)]);
      await nextPaint();
    }
    panels.grid.show(state, state.reduce !== "head", theme);
    const [rows] = await all;
    this.fail(null);
    const { key, weight } = panels.showRows(state, rows, theme);
    this.root.dataset.shown = `${state.layer}/${state.head}/${state.token}`;
    // Last, so that the matrix never waits for thumbnails of other heads.
    void panels.showDetail(state, key, weight).catch(this.fail);
    void panels.sort(state, theme).catch(this.fail);
    void panels.grid.load(state.layer).catch(this.fail);
  }

  /** Maps the state to another comparand. */
  #mapped(state: State, from: Outline, stack: Stack, comparand: Comparand): State {
    const to = stack.sources.get(comparand)!.outline;
    if (to === from) return state;
    const common = stack.sources.get("difference")!.outline;
    return fit(mapState(state, from, to, common), to);
  }

  /** The window of a comparand's matrix. */
  #windowOn(stack: Stack, comparand: Comparand): State["window"] {
    const current = read(this.model);
    const { outline } = stack.sources.get(current.comparand)!;
    return this.#mapped(fit(current, outline), outline, stack, comparand).window;
  }

  async #open(name: string): Promise<Stack> {
    const known = this.#stacks.get(name);
    if (known) return known;
    const { comparands } = this.contents;
    const sources = await Promise.all(comparands.map((comparand) => AttentionSource.open(this.kernel, name, comparand)));
    const stack: Stack = {
      sources: new Map(sources.map((source) => [source.outline.comparand, source])),
      matrices: new Map(),
      panels: new Map(),
    };
    for (const [comparand, source] of stack.sources) {
      const title = isCompared(this.contents) ? `Matrix of ${comparandName(comparand, this.contents)}` : "Matrix";
      const matrix = new Matrix(
        source,
        title,
        isCompared(this.contents) ? COMPARED_PIXELS : MATRIX_PIXELS,
        (token, key) => this.#set({ comparand, token, key, window: this.#windowOn(stack, comparand) }),
        (window) => this.#set(comparand === this.model.get("comparand") ? { window } : { comparand, token: null, key: null, window }),
        () => this.#set({ scale: this.model.get("scale") === "log" ? "sqrt" : "log" }),
      );
      stack.matrices.set(comparand, matrix);
    }
    this.#stacks.set(name, stack);
    return stack;
  }

  /** Puts the panels of a source on screen. */
  #showPanels(stack: Stack, source: AttentionSource): Panels {
    const { comparand } = source.outline;
    let panels = stack.panels.get(comparand);
    if (!panels) {
      panels = new Panels(source, (change) => this.#set(change));
      stack.panels.set(comparand, panels);
    }
    if (panels !== this.#panels) {
      this.#panels?.element.remove();
      this.#panels = panels;
      panels.setMatrices([...stack.matrices.values()]);
      this.root.append(panels.element);
      this.#arrange();
    }
    return panels;
  }
}

/** Requests that are sent together at the start, which saves two round trips. While Python displays
 * the view, nbllm/widgets/attention/initial_answers.py answers them in advance. */
function firstRequests(state: State): AttentionRequest[] {
  const { stack, comparand } = state;
  const size = comparand === "difference" ? COMPARED_PIXELS : MATRIX_PIXELS;
  return [
    { kind: "contents" },
    outlineOf(stack, comparand),
    pictureOf(stack, comparand, selectionOf(state), windowOf(state), size),
  ];
}

/** Mounts the view in an element; returns the function that removes it. */
export function mount(el: HTMLElement, model: Model, channel: Channel): () => void {
  const name = { class: "nbllm-attention", label: "Attention" };
  const { root, kernel, fail, close } = createFrame<AttentionRequest, AttentionAnswers>(el, name, model, channel);
  const receive = () => {
    const answers = model.get("_initial_answers");
    if (answers) kernel.receiveInitial(answers);
    else kernel.requestMissing();
  };
  model.on("change:_initial_answers", receive);
  if (model.get("_initial_answers")) receive();
  else kernel.requestAll(firstRequests(read(model)));
  let stop = () => {};
  let closed = false;
  kernel
    .request({ kind: "contents" })
    .then(({ content: contents }) => {
      if (!closed) stop = new View(model, root, kernel, contents, fail).start();
    })
    .catch(fail);
  return () => {
    closed = true;
    stop();
    model.off("change:_initial_answers", receive);
    close();
  };
}

const render: Render = ({ model, el }) => mount(el, model as never, model as never);

export default { render };
