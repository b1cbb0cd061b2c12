// The sidebar: models, jobs, memory and notebooks.

import { Widget } from "@lumino/widgets";

import { h, setText } from "../shared/dom";
import { Gallery } from "./gallery";
import { icon } from "./icon";
import { type JobActions, Jobs } from "./jobs";
import { Memory, type Tool } from "./memory";
import { type ModelActions, Models } from "./models";
import { mark } from "./rows";
import type { Curated } from "./server";
import { type ActivityMonitor, NO_ACTIVITY } from "./monitor";
import { news } from "./text";

export interface PanelActions extends ModelActions, JobActions {
  openCurated: (name: string) => void;
  tools: () => Tool[];
}

export class Panel extends Widget {
  static readonly ID = "nbllm-panel";

  private readonly problem = h("p", { class: "nbllm-Lab-problem", role: "alert", hidden: true });
  private readonly spoken = h("div", { class: "nbllm-Lab-spoken", "aria-live": "polite" });
  private readonly models: Models;
  private readonly jobs: Jobs;
  private readonly memory = new Memory();
  private readonly gallery: Gallery;
  private before = NO_ACTIVITY;
  private initialized = false; // changes are announced from the second answer on

  constructor(
    private readonly monitor: ActivityMonitor,
    private readonly actions: PanelActions,
  ) {
    super();
    this.id = Panel.ID;
    this.addClass("nbllm-Lab");
    this.title.icon = icon;
    this.title.caption = "nbllm: models, jobs and memory";
    this.models = new Models(actions);
    this.jobs = new Jobs(actions);
    this.gallery = new Gallery(actions.openCurated);
    this.node.setAttribute("role", "region");
    this.node.setAttribute("aria-label", "nbllm");
    this.node.tabIndex = -1;
    this.node.append(
      this.problem, this.jobs.node, this.models.node, this.memory.node, this.gallery.node, this.spoken,
    );
    monitor.changed.connect(this.refresh, this);
    this.refresh();
  }

  setNotebooks(notebooks: readonly Curated[]): void {
    this.gallery.update(notebooks);
  }

  protected override onAfterShow(): void {
    this.monitor.refresh();
  }

  protected override onActivateRequest(): void {
    this.node.focus({ preventScroll: true });
  }

  private refresh(): void {
    const { activity, problem, loaded } = this.monitor;
    setText(this.problem, problem);
    mark(this.problem, "hidden", problem ? undefined : "");
    // Until the first answer the lists are hidden: empty ones would claim that nothing runs.
    for (const part of [this.models, this.jobs, this.memory, this.gallery]) {
      mark(part.node, "hidden", loaded ? undefined : "");
    }
    if (!loaded) return;
    this.models.update(activity);
    this.jobs.update(activity);
    this.memory.update(activity, this.actions.tools());
    if (this.initialized) {
      const messages = news(this.before, activity);
      if (messages.length > 0) setText(this.spoken, messages.join(" "));
    }
    [this.before, this.initialized] = [activity, true];
  }
}
