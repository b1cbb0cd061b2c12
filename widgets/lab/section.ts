// One part of the panel: a heading that folds it, and what is said while it is empty.

import { h } from "../shared/dom";
import { mark, say } from "./rows";

export class Section {
  readonly node: HTMLDetailsElement;
  private readonly count = h("span", { class: "nbllm-Lab-count" });
  private readonly empty = h("p", { class: "nbllm-Lab-empty" });

  constructor(name: string, title: string, ...content: Node[]) {
    const heading = h("h2", {}, title, " ", this.count);
    this.node = h("details", { class: `nbllm-Lab-section nbllm-Lab-${name}`, open: true },
      h("summary", {}, heading), this.empty, ...content);
  }

  /** How many there are, and what to say where there are none. */
  update(count: number, empty: string): void {
    say(this.count, count > 0 ? `(${count})` : "");
    say(this.empty, count > 0 ? "" : empty);
    mark(this.empty, "hidden", count > 0 ? "" : undefined);
  }
}
