// A run at work: how far it is, what it finds, and a way to stop it.

import type { Render } from "@anywidget/types";

import { h } from "../shared/dom";
import { wholePercent } from "../shared/progress";
import { type Channel, Kernel } from "../shared/kernel";
import type { NoContent, RunRequest, RunState, RunStep, StepSummary } from "../shared/protocol";
import { cancel } from "./server";
import { answered, count, doing, figures, spoken } from "./state";

const SPOKEN_EVERY = 10_000; // ms; a change of phase is said at once
const GONE = "The kernel has stopped, and the run with it. Run the cell again";
const KEPT = ": what was answered is in the ledger, and is not asked again.";
const LOST = ": the ledger was off, so it begins anew.";

interface Model {
  get(name: "state"): RunState;
  on(event: string, callback: () => void): void;
  off(event: string, callback: () => void): void;
}

class View {
  root = h("div", { class: "nbllm-run", role: "group" });
  #title = h("span", { class: "verb" });
  #column = h("code");
  #doing = h("span", { class: "doing" });
  #cancel = h("button", { type: "button", class: "cancel" }, "Cancel");
  #bar = h("div", { class: "fill" });
  #progress = h("div", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, this.#bar);
  #counts = h("span", { class: "counts" });
  #figures = h("dl", { class: "figures" });
  #message = h("p", { class: "message", role: "alert", hidden: true });
  #spoken = h("p", { class: "spoken", role: "status", "aria-live": "polite" });
  #steps = h("ol", { class: "steps", hidden: true });
  #labels = h("table", { class: "labels", hidden: true });
  #failed = lines("Without an answer");
  #slowest = lines("Slowest rows, by their batch");
  #latest = lines("Written last");
  #spokenAt = 0;
  #phase = "";
  #asked = false;
  #gone = false;

  #kernel: Kernel<RunRequest, { cancel: NoContent }>;

  constructor(private model: Model, channel: Channel) {
    this.#kernel = new Kernel(channel);
    this.root.append(
      h("div", { class: "head" },
        h("div", { class: "name" }, this.#title, " → ", this.#column),
        this.#doing,
        this.#cancel,
      ),
      this.#steps,
      this.#progress,
      h("div", { class: "under" }, this.#counts, this.#figures),
      this.#message,
      h("div", { class: "found" }, this.#labels, this.#failed.root, this.#latest.root, this.#slowest.root),
      this.#spoken,
    );
    this.#cancel.addEventListener("click", this.#stop);
    model.on("change:state", this.#show);
    model.on("comm_live_update", this.#lost);
    this.#show();
  }

  close() {
    this.#kernel.close();
    this.model.off("change:state", this.#show);
    this.model.off("comm_live_update", this.#lost);
  }

  #show = () => {
    if (this.#gone) return;
    const state = this.model.get("state");
    if (state.summary !== undefined) return this.#end(state.summary);
    const { phase, step } = state;
    const { share, texts, failures } = step ?? { share: 0, texts: 0, failures: 0 };
    const done = answered(state);
    this.root.setAttribute("aria-label", `${state.verb} at work`);
    this.root.dataset.phase = phase;
    put(this.#title, state.verb);
    put(this.#column, state.output);
    put(this.#doing, doing(state));
    this.#bar.style.transform = `scaleX(${share})`;
    this.#progress.classList.toggle("waiting", phase === "running" && Boolean(step?.note));
    this.#progress.setAttribute("aria-valuenow", String(wholePercent(share)));
    this.#progress.setAttribute("aria-valuetext", `${count(done)} of ${count(texts)} texts`);
    this.#progress.setAttribute("aria-label", `${state.verb}, work done`);
    const failed = failures ? `, ${count(failures)} failed` : "";
    const verb = step && state.steps.length ? `${step.verb}: ` : "";
    put(this.#counts, `${verb}${wholePercent(share)} %, ${count(done)} of ${count(texts)} texts${failed}`);
    this.#figures.replaceChildren(
      ...figures(state).map(([name, value, meaning]) =>
        h("div", { title: meaning }, h("dt", {}, name), h("dd", {}, value)),
      ),
    );
    this.#steps.hidden = state.steps.length === 0;
    this.#steps.replaceChildren(...state.steps.map(stepLine));
    this.#showLabels(step);
    this.#failed.show(step?.failed ?? [], failures);
    this.#latest.show(step?.latest ?? []);
    // What is slow is told where it stands out: in a run that takes its time.
    this.#slowest.show((step?.slowest ?? []).filter(([, s]) => s >= 1).map(([row, s]) => [row, `${s.toFixed(1)} s`]));
    const ending = phase !== "running" || !step?.job;
    this.#cancel.setAttribute("aria-disabled", String(ending || this.#asked));
    put(this.#cancel, phase === "stopping" || this.#asked ? "Cancelling…" : "Cancel");
    this.#say(state);
  };

  /** Shows what stays of a run: the summary that its cell would show, had the end reached it. */
  #end(summary: string) {
    this.close();
    const ended = h("div", { class: "nbllm-run-ended" });
    ended.innerHTML = summary;
    this.root.replaceWith(ended);
    this.root = ended;
  }

  #showLabels(step: RunStep | null) {
    const { labels, other_labels: others } = step ?? { labels: [], other_labels: null };
    this.#labels.hidden = labels.length === 0;
    if (!labels.length) return;
    const bars: [string, number][] = [...labels];
    if (others) bars.push([`${count(others.labels)} others`, others.rows]);
    const most = Math.max(...bars.map(([, rows]) => rows));
    const total = bars.reduce((sum, [, rows]) => sum + rows, 0);
    this.#labels.replaceChildren(
      h("caption", {}, "Rows a label, so far"),
      ...bars.map(([label, rows]) => {
        const bar = h("div", { class: "rows" });
        bar.style.width = `${(100 * rows) / most}%`;
        return h("tr", {},
          h("th", { scope: "row", title: label }, label),
          h("td", { class: "of" }, bar),
          h("td", { class: "number" }, count(rows)),
          h("td", { class: "number" }, `${Math.round((100 * rows) / total)} %`),
        );
      }),
    );
  }

  #say(state: RunState) {
    const now = Date.now();
    if (state.phase === this.#phase && now - this.#spokenAt < SPOKEN_EVERY) return;
    this.#spokenAt = now;
    this.#phase = state.phase;
    put(this.#spoken, spoken(state));
  }

  #tell(message: string) {
    put(this.#message, message);
    this.#message.hidden = !message;
  }

  #stop = async () => {
    const { phase, step } = this.model.get("state");
    const job = step?.job;
    if (!job || phase !== "running" || this.#asked) return;
    this.#asked = true;
    this.#tell("");
    this.#show();
    // It reaches a kernel that is not busy at once, because the run is beside the notebook; one that
    // is gone, or never answers, is the server's business.
    this.#kernel.command({ kind: "cancel" }).catch(() => {});
    const trouble = await cancel(job);
    if (trouble && this.model.get("state").phase === "running") {
      this.#asked = false;
      this.#tell(trouble);
      this.#show();
    }
  };

  #lost = () => {
    this.#gone = true;
    this.root.dataset.phase = "gone";
    put(this.#doing, "the kernel has stopped");
    this.#cancel.hidden = true;
    this.#tell(GONE + (this.model.get("state").step?.keeps ? KEPT : LOST));
  };
}

const stepLine = ({ verb, column, known, computed, failures, seconds }: StepSummary) =>
  h("li", {}, `${verb} → ${column}: ${count(known + computed)} texts, ${seconds.toFixed(1)} s`,
    failures ? `, ${count(failures)} failed` : "");

/** A list of rows and what there is to say of each; hidden while there is none. */
function lines(title: string) {
  const caption = h("caption");
  const root = h("table", { class: "lines", hidden: true });
  return {
    root,
    show(rows: [row: string, text: string][], of = rows.length) {
      root.hidden = rows.length === 0;
      put(caption, of > rows.length ? `${title} (${count(rows.length)} of ${count(of)})` : title);
      root.replaceChildren(
        caption,
        ...rows.map(([row, text]) => h("tr", {}, h("th", { scope: "row" }, row), h("td", {}, text))),
      );
    },
  };
}

/** Sets a text where it is another: a screen reader need not hear the same again. */
function put(element: Element, text: string) {
  if (element.textContent !== text) element.textContent = text;
}

const render: Render = ({ model, el }) => {
  const view = new View(model as unknown as Model, model as unknown as Channel);
  el.append(view.root);
  return () => {
    view.close();
    view.root.remove();
  };
};

export default { render };
