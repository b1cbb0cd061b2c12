// A section of the panel: a heading that folds it, and a text while it is empty.

import { h, setText } from "../shared/dom";
import { mark } from "./rows";

export class Section {
  readonly node: HTMLDetailsElement;
  private readonly count = h("span", { class: "nbllm-Lab-count" });
  private readonly empty = h("p", { class: "nbllm-Lab-empty" });

  constructor(name: string, title: string, ...content: Node[]) {
    const heading = h("h2", {}, title, " ", this.count);
    this.node = h("details", { class: `nbllm-Lab-section nbllm-Lab-${name}`, open: true },
      h("summary", {}, heading), this.empty, ...content);
  }

  /** Shows the number of entries, or the text `empty` if there are none. */
  update(count: number, empty: string): void {
    setText(this.count, count > 0 ? `(${count})` : "");
    setText(this.empty, count > 0 ? "" : empty);
    mark(this.empty, "hidden", count > 0 ? "" : undefined);
  }
}
