// The panel's section of running and past jobs, of all notebooks.

import { h, setText } from "../shared/dom";
import { wholePercent } from "../shared/format";
import { type Activity, type Job, running } from "./activity";
import { mark, type Row, Rows } from "./rows";
import { Section } from "./section";
import { advice, basename, modelName, percent, progress, state, title, when } from "./text";

export interface JobActions {
  notebookOf: (kernel: string | null, announced: string | null) => string | null;
  open: (path: string) => void;
  cancel: (job: string) => Promise<void>;
}

const FEW = 3; // past jobs that are shown at first

export class Jobs {
  private readonly list = h("ul", { class: "nbllm-Lab-list", "aria-label": "Jobs, newest first" });
  private readonly more = h("button", { type: "button", class: "nbllm-Lab-more" });
  private readonly section = new Section("jobs", "Jobs", this.list, this.more);
  private readonly rows: Rows<Job>;
  private all = false;
  private activity: Activity | undefined;

  constructor(private readonly actions: JobActions) {
    this.rows = new Rows(this.list, (job) => job.id, (job) => this.job(job.id));
    this.more.addEventListener("click", () => {
      this.all = !this.all;
      if (this.activity) this.update(this.activity);
    });
  }

  get node(): HTMLElement {
    return this.section.node;
  }

  update(activity: Activity): void {
    this.activity = activity;
    const now = running(activity);
    const past = activity.jobs.filter((job) => job.state !== "running");
    this.rows.update([...now, ...(this.all ? past : past.slice(0, FEW))]);
    this.section.update(
      activity.jobs.length,
      "Nothing has run yet. Runs of df.llm's verbs and trainings show here, those of all notebooks.",
    );
    mark(this.more, "hidden", past.length > FEW ? undefined : "");
    mark(this.more, "aria-expanded", String(this.all));
    setText(this.more, this.all ? `Show the last ${FEW}` : `Show all ${past.length}`);
  }

  private job(id: string): Row<Job> {
    const name = h("span", { class: "nbllm-Lab-name" });
    const badge = h("span", { class: "nbllm-Lab-state" });
    const link = h("button", { type: "button", class: "nbllm-Lab-link" });
    const [model, time] = [h("span", { class: "nbllm-Lab-model" }), h("span", { class: "nbllm-Lab-model" })];
    const fill = h("div", { class: "nbllm-Lab-fill" });
    const bar = h("div", {
      class: "nbllm-Lab-progress", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100,
    }, fill);
    const facts = h("span", { class: "nbllm-Lab-facts" });
    const note = h("span", { class: "nbllm-Lab-note" });
    const button = h("button", { type: "button", class: "nbllm-Lab-action" }, "Cancel");
    let path: string | null = null;
    let refusal = ""; // the error of the last cancel
    link.addEventListener("click", () => path !== null && this.actions.open(path));
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") === "true") return;
      mark(button, "aria-disabled", "true");
      this.actions.cancel(id).then(
        () => (refusal = ""),
        (error: unknown) => {
          refusal = error instanceof Error ? error.message : String(error);
          setText(note, refusal);
          mark(note, "hidden", undefined);
          mark(button, "aria-disabled", undefined);
        },
      );
    });
    return {
      node: h("li", { class: "nbllm-Lab-row" },
        h("div", { class: "nbllm-Lab-line" }, name, badge, button),
        h("div", { class: "nbllm-Lab-line nbllm-Lab-origin" }, link, model, time),
        bar, facts, note),
      update: (job) => {
        const runs = job.state === "running";
        path = this.actions.notebookOf(job.kernel, job.notebook);
        setText(name, title(job));
        setText(badge, state(job));
        mark(badge, "data-state", job.state);
        setText(link, path === null ? "" : basename(path));
        mark(link, "title", path === null ? undefined : `Open ${path}`);
        mark(link, "hidden", path === null ? "" : undefined);
        setText(model, modelName(job.model));
        mark(model, "title", job.model);
        setText(time, when(runs ? job.started : job.updated, new Date()));
        fill.style.width = `${job.share * 100}%`;
        mark(bar, "hidden", runs ? undefined : "");
        mark(bar, "aria-label", title(job));
        mark(bar, "aria-valuenow", String(wholePercent(job.share)));
        mark(bar, "aria-valuetext", percent(job.share));
        setText(facts, progress(job));
        const text = runs ? refusal : advice(job);
        setText(note, text);
        mark(note, "hidden", text ? undefined : "");
        mark(button, "hidden", runs ? undefined : "");
        mark(button, "aria-label", `Cancel ${title(job)}`);
        if (job.cancelling) mark(button, "aria-disabled", "true");
      },
    };
  }
}
