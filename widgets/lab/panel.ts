// The sidebar: models, jobs, memory and notebooks, as the server says they are.

import { Widget } from "@lumino/widgets";

import { h } from "../shared/dom";
import { Gallery } from "./gallery";
import { icon } from "./icon";
import { type JobActions, Jobs } from "./jobs";
import { Memory, type Tool } from "./memory";
import { type ModelActions, Models } from "./models";
import { mark, say } from "./rows";
import type { Curated } from "./server";
import { NOTHING, type Watch } from "./watch";
import { news } from "./words";

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
  private before = NOTHING;
  private heard = false; // what was there when the page opened is no news

  constructor(
    private readonly watch: Watch,
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
    watch.changed.connect(this.refresh, this);
    this.refresh();
  }

  setNotebooks(notebooks: readonly Curated[]): void {
    this.gallery.update(notebooks);
  }

  protected override onAfterShow(): void {
    this.watch.now();
  }

  protected override onActivateRequest(): void {
    this.node.focus({ preventScroll: true });
  }

  private refresh(): void {
    const { activity, problem, loaded } = this.watch;
    say(this.problem, problem);
    mark(this.problem, "hidden", problem ? undefined : "");
    // What was seen last stays on show; before that, no empty list claims that nothing runs.
    for (const part of [this.models, this.jobs, this.memory, this.gallery]) {
      mark(part.node, "hidden", loaded ? undefined : "");
    }
    if (!loaded) return;
    this.models.update(activity);
    this.jobs.update(activity);
    this.memory.update(activity, this.actions.tools());
    if (this.heard) {
      const said = news(this.before, activity);
      if (said.length > 0) say(this.spoken, said.join(" "));
    }
    [this.before, this.heard] = [activity, true];
  }
}
