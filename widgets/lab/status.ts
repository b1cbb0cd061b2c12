// The item in the status bar: running jobs, else models; a click opens the panel.

import { type ISignal, Signal } from "@lumino/signaling";
import { Widget } from "@lumino/widgets";

import { h } from "../shared/dom";
import { say } from "./rows";
import type { Watch } from "./watch";
import { status } from "./words";

export class Status extends Widget {
  private readonly button = h("button", { type: "button", title: "nbllm: show models, jobs and memory" });
  private readonly toggled = new Signal<this, void>(this);
  private text = "";

  constructor(
    private readonly watch: Watch,
    open: () => void,
  ) {
    super();
    this.addClass("nbllm-Lab-status");
    this.node.append(this.button);
    this.button.addEventListener("click", open);
    watch.changed.connect(this.refresh, this);
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
    this.text = status(this.watch.activity);
    say(this.button, this.text);
    if (was !== this.active) this.toggled.emit();
  }
}
