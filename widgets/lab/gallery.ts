// The panel's section of curated notebooks; a click opens a copy.

import { h, setText } from "../shared/dom";
import { mark, type Row, Rows } from "./rows";
import { Section } from "./section";
import type { Curated } from "./server";

export class Gallery {
  private readonly list = h("ul", { class: "nbllm-Lab-list", "aria-label": "Notebooks to start from" });
  private readonly section = new Section("gallery", "Notebooks", this.list);
  private readonly rows: Rows<Curated>;

  constructor(private readonly open: (name: string) => void) {
    this.rows = new Rows(this.list, (notebook) => notebook.name, (notebook) => this.notebook(notebook.name));
    this.update([]);
  }

  get node(): HTMLElement {
    return this.section.node;
  }

  update(notebooks: readonly Curated[]): void {
    this.rows.update(notebooks);
    this.section.update(notebooks.length, "The server offers none.");
  }

  private notebook(name: string): Row<Curated> {
    const link = h("button", { type: "button", class: "nbllm-Lab-link", title: "Opens a copy in your folder" });
    const facts = h("span", { class: "nbllm-Lab-facts" });
    link.addEventListener("click", () => this.open(name));
    return {
      node: h("li", { class: "nbllm-Lab-row" }, h("div", { class: "nbllm-Lab-line" }, link), facts),
      update: (notebook) => {
        setText(link, notebook.title || notebook.name);
        const minutes = notebook.minutes === null ? [] : [`${notebook.minutes}\u00a0min`];
        setText(facts, [...minutes, notebook.summary].filter(Boolean).join(" · "));
        mark(facts, "title", notebook.summary); // of which two lines are shown
      },
    };
  }
}
