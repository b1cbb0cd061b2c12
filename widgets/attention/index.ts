// The attention viewer. What a reader sets is shared with Python and with every other view
// of the same widget; all numbers are asked for when they come on screen.

import type { Render } from "@anywidget/types";

import { after, painted } from "../shared/dom";
import { framed } from "../shared/frame";
import type { Channel, Kernel, Question } from "../shared/kernel";
import { onTheme, themeOf } from "../shared/theme";
import { Controls, sideName } from "./controls";
import { LARGEST, Matrix } from "./matrix";
import { Panels } from "./panels";
import { GUTTER, wholeWords } from "./plot";
import { type Contents, type Outline, outlineOf, pictureOf, Sheet } from "./recording";
import { carried, fit, isCompared, type Model, read, shownOf, type State, TRAITS, windowOf } from "./state";

const PADDING = 28;
// Of a matrix by itself, as many as its plot has; three stay below 1 MB together.
const PIXELS = { alone: LARGEST - GUTTER, compared: 300 };
const GRID_WAITS = 500; // ms for the first matrices, until a reader may want another head

/** The sheets of a part, their matrices, and the panels of the side that is looked at. */
interface Part {
  sheets: Map<string, Sheet>;
  matrices: Map<string, Matrix>;
  panels: Map<string, Panels>;
}

class View {
  #controls: Controls;
  #parts = new Map<string, Part>();
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

  /** Follows the model, the theme and the room there is, until the returned function is called. */
  start(): () => void {
    const change = () => void this.#update();
    for (const trait of TRAITS) this.model.on(`change:${trait}`, change);
    const stopTheme = onTheme(() => this.#layOut());
    let seen = 0;
    const resize = () => {
      const width = this.root.clientWidth;
      if (width && width !== seen) {
        seen = width;
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
    for (const matrix of this.#parts.get(this.#panels.sheet.outline.part)!.matrices.values()) {
      matrix.layOut(matrix.element.clientWidth);
    }
  }

  /** One update at a time: what changes meanwhile is shown by the next, the last of it alone. */
  async #update() {
    if (!this.root.clientWidth) return; // hidden: drawn when it has a size
    this.#again = true;
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#again) {
        await Promise.resolve(); // until all of a change is set: a head comes with its layer
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
    const wanted = read(this.model);
    const part = await this.#open(wanted.part);
    const sheet = part.sheets.get(wanted.side)!;
    const state = fit(wanted, sheet.outline);
    const views = [...part.matrices].map(([side, matrix]) => {
      const its = part.sheets.get(side)!;
      const theirs = this.#carried(state, sheet.outline, part, side);
      const shown = shownOf(theirs);
      const window = theirs.words ? wholeWords(windowOf(theirs), its.units(true)) : windowOf(theirs);
      const asked = its.picture(shown, window, matrix.resolution);
      return { side, matrix, shown, words: theirs.words, token: theirs.token, key: theirs.key, asked };
    });
    const panels = this.#bring(part, sheet);
    this.#controls.show(state, sheet.outline);
    const theme = this.#theme;
    const pictures = views.map(async ({ side, matrix, asked, ...view }) => {
      const picture = await asked.catch((error: Error) => {
        matrix.clear();
        throw error;
      });
      matrix.show({ ...view, picture }, theme);
      if (side === wanted.side) panels.tell(state, picture);
    });
    const asked = panels.rows(state).catch((error: Error) => {
      panels.clearRows(state, theme);
      throw error;
    });
    const all = Promise.all([asked, ...pictures]);
    all.catch(() => {}); // it is thrown below, when the grid is there
    // To make a thousand cells holds up a matrix that comes meanwhile.
    if (!panels.grid.isFilled) {
      await Promise.race([Promise.allSettled(pictures), after(GRID_WAITS)]);
      await painted();
    }
    panels.grid.show(state, state.how !== "head", theme);
    const [rows] = await all;
    this.fail(null);
    const { key, weight } = panels.showRows(state, rows, theme);
    this.root.dataset.shown = `${state.layer}/${state.head}/${state.token}`;
    // After what was asked for: a picture never waits for those of the other heads.
    void panels.showDetail(state, key, weight).catch(this.fail);
    void panels.sort(state, theme).catch(this.fail);
    void panels.grid.load(state.layer).catch(this.fail);
  }

  /** The state as another side of the comparison has it. */
  #carried(state: State, from: Outline, part: Part, side: string): State {
    const to = part.sheets.get(side)!.outline;
    if (to === from) return state;
    const common = part.sheets.get("difference")!.outline;
    return fit(carried(state, from, to, common), to);
  }

  /** Where the matrix of a side is zoomed to. */
  #windowOn(part: Part, side: string): State["window"] {
    const wanted = read(this.model);
    const { outline } = part.sheets.get(wanted.side)!;
    return this.#carried(fit(wanted, outline), outline, part, side).window;
  }

  async #open(name: string): Promise<Part> {
    const known = this.#parts.get(name);
    if (known) return known;
    const { sides } = this.contents;
    const sheets = await Promise.all(sides.map((side) => Sheet.open(this.kernel, name, side)));
    const part: Part = {
      sheets: new Map(sheets.map((sheet) => [sheet.outline.side, sheet])),
      matrices: new Map(),
      panels: new Map(),
    };
    for (const [side, sheet] of part.sheets) {
      const title = isCompared(this.contents) ? `Matrix of ${sideName(side, this.contents)}` : "Matrix";
      const matrix = new Matrix(
        sheet,
        title,
        isCompared(this.contents) ? PIXELS.compared : PIXELS.alone,
        (token, key) => this.#set({ side, token, key, window: this.#windowOn(part, side) }),
        (window) => this.#set(side === this.model.get("side") ? { window } : { side, token: null, key: null, window }),
        () => this.#set({ scale: this.model.get("scale") === "log" ? "sqrt" : "log" }),
      );
      part.matrices.set(side, matrix);
    }
    this.#parts.set(name, part);
    return part;
  }

  /** Puts the panels of a sheet on screen, unless they are there. */
  #bring(part: Part, sheet: Sheet): Panels {
    const { side } = sheet.outline;
    let panels = part.panels.get(side);
    if (!panels) {
      panels = new Panels(sheet, (change) => this.#set(change));
      part.panels.set(side, panels);
    }
    if (panels !== this.#panels) {
      this.#panels?.element.remove();
      this.#panels = panels;
      panels.hold([...part.matrices.values()]);
      this.root.append(panels.element);
      this.#arrange();
    }
    return panels;
  }
}

/** What is asked for before anything is known, to be on screen two round trips earlier.
 * While Python shows the view it answers this unasked: nbllm/widgets/opening.py. */
function opening(state: State): Question[] {
  const { part, side } = state;
  const size = side === "difference" ? PIXELS.compared : PIXELS.alone;
  return [
    { kind: "contents" },
    outlineOf(part, side),
    pictureOf(part, side, shownOf(state), windowOf(state), size),
  ];
}

/** Puts the view into an element. Returns the function that takes it away again. */
export function mount(el: HTMLElement, model: Model, channel: Channel): () => void {
  const name = { class: "nbllm-attention", label: "Attention" };
  const { root, kernel, fail, close } = framed(el, name, model, channel);
  const hear = () => {
    const told = model.get("_opening");
    if (told) kernel.learn(told);
    else kernel.askForMissing();
  };
  model.on("change:_opening", hear);
  if (model.get("_opening")) hear();
  else kernel.askTogether(opening(read(model)));
  let stop = () => {};
  let closed = false;
  kernel
    .ask({ kind: "contents" })
    .then(({ message }) => {
      const contents = message as unknown as Contents;
      if (!closed) stop = new View(model, root, kernel, contents, fail).start();
    })
    .catch(fail);
  return () => {
    closed = true;
    stop();
    model.off("change:_opening", hear);
    close();
  };
}

const render: Render = ({ model, el }) => mount(el, model as never, model as never);

export default { render };
