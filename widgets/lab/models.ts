// The panel's section of models in memory, by notebook or process.

import { h, setText } from "../shared/dom";
import type { Activity, Model, Process } from "./activity";
import { mark, type Row, Rows } from "./rows";
import { Section } from "./section";
import { basename, modelName, precision } from "./text";

export interface ModelActions {
  /** Returns the current path of a kernel's notebook. */
  notebookOf: (kernel: string | null, announced: string | null) => string | null;
  open: (path: string) => void;
  /** Resolves when the kernel has unloaded the model; a busy kernel does so when it is idle. */
  unload: (kernel: string, key: string) => Promise<void>;
}

const BUSY_AFTER = 700; // ms without an answer until the kernel is reported as busy

export class Models {
  private readonly list = h("ul", { class: "nbllm-Lab-list", "aria-label": "Models by notebook" });
  private readonly section = new Section("models", "Models", this.list);
  private readonly rows: Rows<Process>;

  constructor(private readonly actions: ModelActions) {
    this.rows = new Rows(this.list, (process) => process.process, () => this.process());
  }

  get node(): HTMLElement {
    return this.section.node;
  }

  update(activity: Activity): void {
    const holding = activity.processes.filter((process) => process.models.length > 0);
    this.rows.update(holding);
    const count = holding.reduce((sum, process) => sum + process.models.length, 0);
    this.section.update(count, "No model is loaded. nbllm.load() or the first verb loads one.");
  }

  private process(): Row<Process> {
    const link = h("button", { type: "button", class: "nbllm-Lab-link" });
    const where = h("span", { class: "nbllm-Lab-where" });
    const list = h("ul", { class: "nbllm-Lab-list" });
    let kernel: string | null = null;
    let path: string | null = null;
    link.addEventListener("click", () => path !== null && this.actions.open(path));
    const models = new Rows<Model>(list, (model) => model.key, (model) =>
      this.model(model.key, () => kernel),
    );
    return {
      node: h("li", {}, h("h3", {}, link, where), list),
      update: (process) => {
        kernel = process.kernel;
        path = this.actions.notebookOf(kernel, process.notebook);
        setText(link, path === null ? "" : basename(path));
        mark(link, "title", path === null ? undefined : `Open ${path}`);
        mark(link, "hidden", path === null ? "" : undefined);
        setText(where, path === null ? `${kernel === null ? "Process" : "Kernel of process"} ${process.pid}` : "");
        mark(list, "aria-label", `Models of ${path === null ? `process ${process.pid}` : basename(path)}`);
        models.update(process.models);
      },
    };
  }

  private model(key: string, kernel: () => string | null): Row<Model> {
    const name = h("span", { class: "nbllm-Lab-name" });
    const facts = h("span", { class: "nbllm-Lab-facts" });
    const note = h("span", { class: "nbllm-Lab-note", role: "status" });
    const button = h("button", { type: "button", class: "nbllm-Lab-action" }, "Unload");
    button.addEventListener("click", () => {
      const id = kernel();
      if (id === null || button.getAttribute("aria-disabled") === "true") return;
      mark(button, "aria-disabled", "true"); // `disabled` would lose the focus
      setText(note, "Unloading …");
      const busy = setTimeout(() => setText(note, "The kernel is busy: unloads when it is idle."), BUSY_AFTER);
      this.actions
        .unload(id, key)
        .then(
          () => setText(note, ""),
          (error: unknown) => setText(note, error instanceof Error ? error.message : String(error)),
        )
        .finally(() => {
          clearTimeout(busy);
          mark(button, "aria-disabled", undefined);
        });
    });
    return {
      node: h("li", { class: "nbllm-Lab-row" },
        h("div", { class: "nbllm-Lab-line" }, name, button), facts, note),
      update: (model) => {
        setText(name, modelName(model.name));
        mark(name, "title", model.name);
        setText(facts, precision(model));
        mark(button, "aria-label", `Unload ${modelName(model.name)}`);
        // Only kernels can be reached from here.
        mark(button, "hidden", kernel() === null ? "" : undefined);
      },
    };
  }
}
