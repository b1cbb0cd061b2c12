// The display of a run: its progress, its findings and a button to cancel it.

import type { Render } from "@anywidget/types";

import { h, setText } from "../shared/dom";
import { formatNumber, wholePercent } from "../shared/format";
import { type Channel, Kernel } from "../shared/kernel";
import type { NoContent, RunRequest, RunState, RunStep, StepSummary } from "../shared/protocol";
import { cancel } from "./server";
import { figures, finished, spoken, statusText } from "./state";

const SPOKEN_EVERY = 10_000; // ms; a change of phase is announced at once
const KERNEL_DIED = "The kernel has stopped, and the run with it. Run the cell again";
const RESUMES = ": what was answered is in the ledger, and is not asked again.";
const RESTARTS = ": the ledger was off, so it begins anew.";

interface Model {
  get(name: "state"): RunState;
  on(event: string, callback: () => void): void;
  off(event: string, callback: () => void): void;
}

class View {
  root = h("div", { class: "nbllm-run", role: "group" });
  #title = h("span", { class: "verb" });
  #column = h("code");
  #status = h("span", { class: "doing" });
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
  #cancelRequested = false;
  #kernelDied = false;

  #kernel: Kernel<RunRequest, { cancel: NoContent }>;

  constructor(private model: Model, channel: Channel) {
    this.#kernel = new Kernel(channel);
    this.root.append(
      h("div", { class: "head" },
        h("div", { class: "name" }, this.#title, " → ", this.#column),
        this.#status,
        this.#cancel,
      ),
      this.#steps,
      this.#progress,
      h("div", { class: "under" }, this.#counts, this.#figures),
      this.#message,
      h("div", { class: "found" }, this.#labels, this.#failed.root, this.#latest.root, this.#slowest.root),
      this.#spoken,
    );
    this.#cancel.addEventListener("click", this.#requestCancel);
    model.on("change:state", this.#show);
    model.on("comm_live_update", this.#onKernelDied);
    this.#show();
  }

  close() {
    this.#kernel.close();
    this.model.off("change:state", this.#show);
    this.model.off("comm_live_update", this.#onKernelDied);
  }

  #show = () => {
    if (this.#kernelDied) return;
    const state = this.model.get("state");
    if (state.summary !== undefined) return this.#end(state.summary);
    const { phase, step } = state;
    const { share, texts, failures } = step ?? { share: 0, texts: 0, failures: 0 };
    const done = finished(state);
    this.root.setAttribute("aria-label", `${state.verb} at work`);
    this.root.dataset.phase = phase;
    setText(this.#title, state.verb);
    setText(this.#column, state.output);
    setText(this.#status, statusText(state));
    this.#bar.style.transform = `scaleX(${share})`;
    this.#progress.classList.toggle("waiting", phase === "running" && Boolean(step?.note));
    this.#progress.setAttribute("aria-valuenow", String(wholePercent(share)));
    this.#progress.setAttribute("aria-valuetext", `${formatNumber(done)} of ${formatNumber(texts)} texts`);
    this.#progress.setAttribute("aria-label", `${state.verb}, work done`);
    const failed = failures ? `, ${formatNumber(failures)} failed` : "";
    const verb = step && state.steps.length ? `${step.verb}: ` : "";
    setText(this.#counts, `${verb}${wholePercent(share)} %, ${formatNumber(done)} of ${formatNumber(texts)} texts${failed}`);
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
    // Rows below a second are not worth naming.
    this.#slowest.show((step?.slowest ?? []).filter(([, s]) => s >= 1).map(([row, s]) => [row, `${s.toFixed(1)} s`]));
    const ending = phase !== "running" || !step?.job;
    this.#cancel.setAttribute("aria-disabled", String(ending || this.#cancelRequested));
    setText(this.#cancel, phase === "stopping" || this.#cancelRequested ? "Cancelling…" : "Cancel");
    this.#announce(state);
  };

  /** Replaces the display by the summary of a run that has ended. */
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
    if (others) bars.push([`${formatNumber(others.labels)} others`, others.rows]);
    const most = Math.max(...bars.map(([, rows]) => rows));
    const total = bars.reduce((sum, [, rows]) => sum + rows, 0);
    this.#labels.replaceChildren(
      h("caption", {}, "Rows per label, so far"),
      ...bars.map(([label, rows]) => {
        const bar = h("div", { class: "rows" });
        bar.style.width = `${(100 * rows) / most}%`;
        return h("tr", {},
          h("th", { scope: "row", title: label }, label),
          h("td", { class: "of" }, bar),
          h("td", { class: "number" }, formatNumber(rows)),
          h("td", { class: "number" }, `${Math.round((100 * rows) / total)} %`),
        );
      }),
    );
  }

  #announce(state: RunState) {
    const now = Date.now();
    if (state.phase === this.#phase && now - this.#spokenAt < SPOKEN_EVERY) return;
    this.#spokenAt = now;
    this.#phase = state.phase;
    setText(this.#spoken, spoken(state));
  }

  #showMessage(message: string) {
    setText(this.#message, message);
    this.#message.hidden = !message;
  }

  #requestCancel = async () => {
    const { phase, step } = this.model.get("state");
    const job = step?.job;
    if (!job || phase !== "running" || this.#cancelRequested) return;
    this.#cancelRequested = true;
    this.#showMessage("");
    this.#show();
    // Reaches a kernel whose run is in the background; the server reaches all others.
    this.#kernel.command({ kind: "cancel" }).catch(() => {});
    const problem = await cancel(job);
    if (problem && this.model.get("state").phase === "running") {
      this.#cancelRequested = false;
      this.#showMessage(problem);
      this.#show();
    }
  };

  #onKernelDied = () => {
    this.#kernelDied = true;
    this.root.dataset.phase = "gone";
    setText(this.#status, "the kernel has stopped");
    this.#cancel.hidden = true;
    this.#showMessage(KERNEL_DIED + (this.model.get("state").step?.keeps ? RESUMES : RESTARTS));
  };
}

const stepLine = ({ verb, column, known, computed, failures, seconds }: StepSummary) =>
  h("li", {}, `${verb} → ${column}: ${formatNumber(known + computed)} texts, ${seconds.toFixed(1)} s`,
    failures ? `, ${formatNumber(failures)} failed` : "");

/** Returns a table of rows with a text each, hidden while it is empty. */
function lines(title: string) {
  const caption = h("caption");
  const root = h("table", { class: "lines", hidden: true });
  return {
    root,
    show(rows: [row: string, text: string][], of = rows.length) {
      root.hidden = rows.length === 0;
      setText(caption, of > rows.length ? `${title} (${formatNumber(rows.length)} of ${formatNumber(of)})` : title);
      root.replaceChildren(
        caption,
        ...rows.map(([row, text]) => h("tr", {}, h("th", { scope: "row" }, row), h("td", {}, text))),
      );
    },
  };
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
