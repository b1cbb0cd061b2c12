// Three plotly.js charts: rows by answer, by score, and by truth and answer. A selection in one
// filters the table and the other charts. The kernel sends the code of plotly.js, once per page.

import { parseHex, textColour } from "../shared/colour";
import { h } from "../shared/dom";
import { formatNumber } from "../shared/format";
import type { Counts, Kernel, Outline } from "./outline";
import type { Query } from "./query";

interface Point {
  x: string | number;
  y: string | number;
  pointIndex: number | [number, number];
}
interface Plot extends HTMLElement {
  on(event: string, listener: (event?: { points?: Point[]; range?: { x: [number, number] } }) => void): void;
}
interface Plotly {
  react(element: HTMLElement, data: unknown[], layout: unknown, config: unknown): Promise<unknown>;
  purge(element: HTMLElement): void;
}

const HEIGHT = 180;
const CONFIG = { displayModeBar: false, doubleClick: false, showTips: false };
const SHARED = Symbol.for("nbllm.plotly");

const page = globalThis as { [SHARED]?: Plotly };

/** Returns plotly.js, which the first chart of a page loads for all. */
async function load(kernel: Kernel): Promise<Plotly> {
  if (page[SHARED]) return page[SHARED];
  const { buffers } = await kernel.request({ kind: "plotly" });
  if (page[SHARED]) return page[SHARED];
  const unpacked = new Blob([buffers[0]!]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = await new Response(unpacked).text();
  // Imported as a module, whatever loader the page has.
  const url = URL.createObjectURL(
    new Blob(["const module = { exports: {} };\n", script, "\nexport default module.exports;"], {
      type: "text/javascript",
    }),
  );
  try {
    return (page[SHARED] ??= ((await import(url)) as { default: Plotly }).default);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Returns the colours and the font of the page around an element. */
function pageStyle(element: HTMLElement) {
  const style = getComputedStyle(element);
  const own = (name: string) => style.getPropertyValue(name).trim();
  return {
    textColour: style.color,
    font: style.fontFamily,
    strong: own("--nbllm-bar"),
    faint: own("--nbllm-bar-all"),
    grid: "rgba(136, 136, 136, 0.25)",
    accent: own("--nbllm-accent"),
    ground: own("--nbllm-ground"),
  };
}

type PageStyle = ReturnType<typeof pageStyle>;

const axis = (colours: PageStyle) => ({
  gridcolor: colours.grid, zerolinecolor: colours.grid, fixedrange: true, automargin: true,
});

const layoutOf = (colours: PageStyle, width: number, more: Record<string, unknown>) => ({
  width,
  height: HEIGHT,
  margin: { l: 40, r: 8, t: 4, b: 30 },
  paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)",
  font: { color: colours.textColour, family: colours.font, size: 12 },
  showlegend: false,
  barmode: "overlay",
  bargap: 0.12,
  dragmode: false,
  hoverlabel: { font: { family: colours.font } },
  ...more,
});

// plotly interprets some tags, and TeX between dollar signs where the page has MathJax.
const plain = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("$", "&#36;");
const CUT = 24;
const short = (text: string) => plain(text.length > CUT ? `${text.slice(0, CUT - 1)}…` : text);

class Chart {
  element: HTMLElement;
  plot = h("div", { class: "plot", role: "img" }) as unknown as Plot;
  #connected = false;

  constructor(title: string, hint: string, private connect: (plot: Plot) => void) {
    this.element = h(
      "figure",
      { "aria-label": title },
      h("figcaption", {}, title, h("span", { class: "dim" }, hint)),
      this.plot,
    );
  }

  get width(): number {
    return this.plot.clientWidth;
  }

  async draw(plotly: Plotly, data: unknown[], layout: unknown, description: string) {
    this.plot.setAttribute("aria-label", description);
    await plotly.react(this.plot, data, layout, CONFIG);
    if (!this.#connected) this.connect(this.plot);
    this.#connected = true;
  }
}

export class Charts {
  element = h("div", { class: "charts" });
  #labels: Chart | undefined;
  #scores: Chart | undefined;
  #confusion: Chart | undefined;
  #counts: Counts | undefined;
  #query: Query | undefined;
  #turn = 0;
  #drawnWidth = 0;
  #sizes: ResizeObserver;

  constructor(
    private kernel: Kernel,
    private outline: Outline,
    private set: (change: Partial<Query>) => void,
    private fail: (error: Error) => void,
  ) {
    if (outline.labels.length) {
      this.#labels = new Chart("Rows by answer", "click to filter", (plot) =>
        plot.on("plotly_click", (event) => this.#clickLabel(event?.points?.[0])),
      );
    }
    if (outline.scored) {
      this.#scores = new Chart("Rows by score", "click or drag to filter", (plot) => {
        plot.on("plotly_click", (event) => this.#clickScore(event?.points?.[0]));
        plot.on("plotly_selected", (event) => {
          if (event?.range) this.set({ score: this.#snap(event.range.x) });
        });
      });
    }
    if (outline.truths.length) {
      this.#confusion = new Chart("Rows by truth and answer", "click to filter", (plot) =>
        plot.on("plotly_click", (event) => this.#clickCell(event?.points?.[0])),
      );
    }
    const charts = [this.#labels, this.#scores, this.#confusion].filter((chart) => chart !== undefined);
    this.element.append(...charts.map((chart) => chart.element));
    this.element.hidden = charts.length === 0;
    this.#sizes = new ResizeObserver(() => {
      if (this.element.clientWidth && this.element.clientWidth !== this.#drawnWidth) void this.redraw();
    });
    this.#sizes.observe(this.element);
  }

  close() {
    this.#sizes.disconnect();
    for (const chart of [this.#labels, this.#scores, this.#confusion]) {
      if (chart) page[SHARED]?.purge(chart.plot);
    }
  }

  /** Draws the counts of a query, unless a later call overtakes this one. */
  async show(query: Query, edits: number) {
    if (this.element.hidden) return;
    const turn = ++this.#turn;
    try {
      const version = query.only === "corrected" ? edits : 0;
      const { content } = await this.kernel.request({ kind: "counts", query }, version);
      if (turn !== this.#turn) return;
      this.#counts = content;
      this.#query = query;
      await this.redraw();
    } catch (error) {
      this.fail(error as Error);
    }
  }

  /** Redraws in another theme or at another width. */
  async redraw() {
    const counts = this.#counts;
    if (!counts || !this.element.clientWidth) return;
    this.#drawnWidth = this.element.clientWidth;
    try {
      const plotly = await load(this.kernel);
      const colours = pageStyle(this.element);
      await this.#drawLabels(plotly, counts, colours);
      await this.#drawScores(plotly, counts, colours);
      await this.#drawConfusion(plotly, counts, colours);
      this.element.dataset.drawn = String(this.#turn);
    } catch (error) {
      this.fail(error as Error);
    }
  }

  async #drawLabels(plotly: Plotly, { labels }: Counts, colours: PageStyle) {
    if (!labels || !this.#labels) return;
    const chosen = this.#query!.labels;
    const y = labels.names.map((_, at) => at);
    const bars = { type: "bar", orientation: "h", y, hoverinfo: "skip" };
    const data = [
      { ...bars, x: labels.all, marker: { color: colours.faint } },
      {
        ...bars,
        x: labels.shown,
        hoverinfo: "text",
        hovertext: labels.names.map(
          (name, at) => `${short(name)}: ${formatNumber(labels.shown[at]!)} of ${formatNumber(labels.all[at]!)}`,
        ),
        marker: {
          color: labels.names.map((name) =>
            !chosen.length || chosen.includes(name) ? colours.strong : colours.faint,
          ),
        },
      },
    ];
    const layout = layoutOf(colours, this.#labels.width, {
      hovermode: "y",
      xaxis: { ...axis(colours), nticks: 4 },
      yaxis: {
        ...axis(colours), autorange: "reversed", tickvals: y, ticktext: labels.names.map(short), showgrid: false,
      },
    });
    const description = labels.names.map((name, at) => `${name} ${formatNumber(labels.shown[at]!)}`).join(", ");
    await this.#labels.draw(plotly, data, layout, `Rows by answer: ${description}`);
  }

  async #drawScores(plotly: Plotly, { scores }: Counts, colours: PageStyle) {
    if (!scores || !this.#scores) return;
    const { edges } = scores;
    const width = edges[1]! - edges[0]!;
    const x = scores.all.map((_, at) => (edges[at]! + edges[at + 1]!) / 2);
    const range = this.#query!.score;
    const isIn = (at: number) =>
      !range || (edges[at + 1]! > range[0] + 1e-9 && edges[at]! < range[1] - 1e-9);
    const bars = { type: "bar", x, width: x.map(() => width), hoverinfo: "skip" };
    const data = [
      { ...bars, y: scores.all, marker: { color: colours.faint } },
      {
        ...bars,
        y: scores.shown,
        hoverinfo: "text",
        hovertext: x.map(
          (_, at) =>
            `${edges[at]!.toFixed(2)} to ${edges[at + 1]!.toFixed(2)}: ` +
            `${formatNumber(scores.shown[at]!)} of ${formatNumber(scores.all[at]!)}`,
        ),
        marker: { color: x.map((_, at) => (isIn(at) ? colours.strong : colours.faint)) },
        selected: { marker: { opacity: 1 } },
        unselected: { marker: { opacity: 1 } },
      },
    ];
    const layout = layoutOf(colours, this.#scores.width, {
      bargap: 0,
      hovermode: "x",
      dragmode: "select",
      selectdirection: "h",
      selections: [],
      newselection: { line: { color: colours.accent, dash: "solid", width: 1 } },
      xaxis: { ...axis(colours), range: [edges[0], edges.at(-1)], showgrid: false },
      yaxis: { ...axis(colours), nticks: 4, rangemode: "tozero" },
    });
    const shown = scores.shown.reduce((sum, bin) => sum + bin, 0);
    await this.#scores.draw(
      plotly, data, layout,
      `Histogram of ${formatNumber(shown)} scores from ${edges[0]!.toFixed(2)} to ${edges.at(-1)!.toFixed(2)}`,
    );
  }

  async #drawConfusion(plotly: Plotly, { confusion }: Counts, colours: PageStyle) {
    if (!confusion || !this.#confusion) return;
    const { truths, answers, counts } = confusion;
    const { labels: chosen, truths: right } = this.#query!;
    const shapes = truths.flatMap((truth, y) =>
      answers.flatMap((answer, x) =>
        right.includes(truth) && chosen.includes(answer)
          ? [{
              type: "rect", x0: x - 0.5, x1: x + 0.5, y0: y - 0.5, y1: y + 0.5,
              line: { color: colours.accent, width: 3 },
            }]
          : [],
      ),
    );
    const most = Math.max(1, ...counts.flat());
    const [none, full] = [parseHex(colours.ground), parseHex(colours.strong)];
    const inkOf = (cell: number) => {
      const mix = (part: 0 | 1 | 2) => none[part] + (full[part] - none[part]) * (cell / most);
      return textColour([mix(0), mix(1), mix(2)]);
    };
    const small = truths.length <= 8 && answers.length <= 8;
    const annotations = small
      ? counts.flatMap((row, y) =>
          row.map((cell, x) => ({ x, y, text: formatNumber(cell), showarrow: false, font: { color: inkOf(cell) } })),
        )
      : [];
    const data = [
      {
        type: "heatmap",
        x: answers.map((_, at) => at),
        y: truths.map((_, at) => at),
        z: counts,
        zmin: 0,
        colorscale: [[0, colours.ground], [1, colours.strong]],
        showscale: false,
        xgap: 2,
        ygap: 2,
        zmax: most,
        hoverinfo: "text",
        hovertext: counts.map((row, y) =>
          row.map((cell, x) => `true ${short(truths[y]!)}, answered ${short(answers[x]!)}: ${formatNumber(cell)}`),
        ),
      },
    ];
    const ticks = (names: string[]) => ({ tickvals: names.map((_, at) => at), ticktext: names.map(short) });
    const layout = layoutOf(colours, this.#confusion.width, {
      shapes,
      annotations,
      xaxis: { ...axis(colours), ...ticks(answers), showgrid: false, zeroline: false, title: { text: "answer", standoff: 6 } },
      yaxis: {
        ...axis(colours), ...ticks(truths), showgrid: false, zeroline: false, autorange: "reversed",
        title: { text: "truth", standoff: 6 },
      },
    });
    const description = truths
      .flatMap((truth, y) => answers.map((answer, x) => `true ${truth} answered ${answer} ${formatNumber(counts[y]![x]!)}`))
      .slice(0, 30)
      .join(", ");
    await this.#confusion.draw(plotly, data, layout, `Confusion matrix: ${description}`);
  }

  #clickLabel(point: Point | undefined) {
    const label = point && this.outline.labels[Number(point.y)];
    if (label === undefined) return;
    const { labels } = this.#query!;
    this.set({ labels: labels.length === 1 && labels[0] === label ? [] : [label] });
  }

  #clickScore(point: Point | undefined) {
    const edges = this.#counts?.scores?.edges;
    if (!point || !edges) return;
    const at = point.pointIndex as number;
    const range: [number, number] = [edges[at]!, edges[at + 1]!];
    const now = this.#query!.score;
    this.set({ score: now && now[0] === range[0] && now[1] === range[1] ? null : range });
  }

  /** Rounds a range to whole bins; null if it has all bins. */
  #snap([from, to]: [number, number]): [number, number] | null {
    const edges = this.#counts!.scores!.edges;
    const near = (value: number) =>
      edges.reduce((best, edge) => (Math.abs(edge - value) < Math.abs(best - value) ? edge : best));
    const low = near(Math.min(from, to));
    const high = near(Math.max(from, to));
    if (low === edges[0] && high === edges.at(-1)) return null;
    return low < high ? [low, high] : [Math.min(from, to), Math.max(from, to)];
  }

  #clickCell(point: Point | undefined) {
    const cells = this.#counts?.confusion;
    if (!point || !cells) return;
    const truth = cells.truths[Number(point.y)];
    const answer = cells.answers[Number(point.x)];
    if (truth === undefined || answer === undefined) return;
    const { labels, truths } = this.#query!;
    const same = labels.length === 1 && labels[0] === answer && truths.length === 1 && truths[0] === truth;
    this.set(same ? { labels: [], truths: [] } : { labels: [answer], truths: [truth] });
  }
}
