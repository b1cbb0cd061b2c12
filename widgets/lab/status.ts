// The status bar item: running jobs, else models; a click opens the panel.

import { type ISignal, Signal } from "@lumino/signaling";
import { Widget } from "@lumino/widgets";

import { h, setText } from "../shared/dom";
import type { ActivityMonitor } from "./monitor";
import { status } from "./text";

export class Status extends Widget {
  private readonly button = h("button", { type: "button", title: "nbllm: show models, jobs and memory" });
  private readonly toggled = new Signal<this, void>(this);
  private text = "";

  constructor(
    private readonly monitor: ActivityMonitor,
    open: () => void,
  ) {
    super();
    this.addClass("nbllm-Lab-status");
    this.node.append(this.button);
    this.button.addEventListener("click", open);
    monitor.changed.connect(this.refresh, this);
  }

  /** Whether there is anything to show. */
  get active(): boolean {
    return this.text !== "";
  }

  get activeChanged(): ISignal<this, void> {
    return this.toggled;
  }

  private refresh(): void {
    const was = this.active;
    this.text = status(this.monitor.activity);
    setText(this.button, this.text);
    if (was !== this.active) this.toggled.emit();
  }
}
