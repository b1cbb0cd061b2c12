// The panel's section on memory: per device, the bytes of each model and of everything else.

import { h, setText } from "../shared/dom";
import { type Activity, type Device, memoryParts } from "./activity";
import { mark, type Row, Rows } from "./rows";
import { Section } from "./section";
import { bytes, modelName } from "./text";

const TONES = 5; // colours of models, see panel.css

/** A panel of another installed extension that shows more. */
export interface Tool {
  label: string;
  open: () => void;
}

interface Segment {
  key: string;
  label: string;
  bytes: number;
  tone: string;
}

/** Returns the segments of a device's bar in order; the rest of the bar is free memory. */
export function segments(device: Device): Segment[] {
  const { models, other } = memoryParts(device);
  return [
    ...models.map((model, i) => ({
      key: `${model.process} ${model.name} ${i}`,
      label: modelName(model.name),
      bytes: model.bytes,
      tone: String(i % TONES),
    })),
    { key: "other", label: "Everything else", bytes: other, tone: "other" },
  ];
}

/** Describes the bar for screen readers. */
export const spoken = (device: Device): string =>
  [
    `${bytes(device.used)} of ${bytes(device.total)} in use`,
    ...segments(device).map((part) => `${part.label} ${bytes(part.bytes)}`),
  ].join(", ");

const deviceName = (device: string): string =>
  device === "cpu" ? "Main memory" : device === "mps" ? "GPU (Metal)" : device.replace(/^cuda:/, "GPU ");

export class Memory {
  private readonly list = h("ul", { class: "nbllm-Lab-list", "aria-label": "Memory by device" });
  private readonly tools = h("p", { class: "nbllm-Lab-tools" });
  private readonly section = new Section("memory", "Memory", this.list, this.tools);
  private readonly rows = new Rows<Device>(this.list, (device) => device.device, device);
  private shown = "";

  get node(): HTMLElement {
    return this.section.node;
  }

  update(activity: Activity, tools: readonly Tool[]): void {
    this.rows.update(activity.devices);
    this.section.update(activity.devices.length, "The server has not said what memory there is.");
    const labels = tools.map((tool) => tool.label).join();
    if (labels === this.shown) return;
    this.shown = labels;
    this.tools.replaceChildren(
      ...tools.map((tool) => {
        const button = h("button", { type: "button", class: "nbllm-Lab-link" }, tool.label);
        button.addEventListener("click", tool.open);
        return button;
      }),
    );
  }
}

function device(): Row<Device> {
  const name = h("span", { class: "nbllm-Lab-name" });
  const total = h("span", { class: "nbllm-Lab-facts" });
  const bar = h("div", { class: "nbllm-Lab-memory-bar", role: "meter", "aria-valuemin": 0 });
  const legend = h("ul", { class: "nbllm-Lab-legend" });
  const slices = new Rows<Segment & { share: number }>(bar, (part) => part.key, () => {
    const node = h("div", { class: "nbllm-Lab-slice" });
    return {
      node,
      update: (part) => {
        node.style.width = `${part.share * 100}%`;
        mark(node, "data-tone", part.tone);
        mark(node, "title", `${part.label}: ${bytes(part.bytes)}`);
      },
    };
  });
  const entries = new Rows<Segment>(legend, (part) => part.key, () => {
    const key = h("span", { class: "nbllm-Lab-key", "aria-hidden": true });
    const [label, held] = [h("span", { class: "nbllm-Lab-label" }), h("span", { class: "nbllm-Lab-bytes" })];
    return {
      node: h("li", {}, key, label, held),
      update: (part) => {
        mark(key, "data-tone", part.tone);
        setText(label, part.label);
        setText(held, bytes(part.bytes));
      },
    };
  });
  return {
    node: h("li", { class: "nbllm-Lab-row" },
      h("div", { class: "nbllm-Lab-line" }, name, total), bar, legend),
    update: (device) => {
      const shown = segments(device);
      setText(name, deviceName(device.device));
      setText(total, `${bytes(device.used)} of ${bytes(device.total)}`);
      mark(bar, "aria-label", deviceName(device.device));
      mark(bar, "aria-valuemax", String(device.total));
      mark(bar, "aria-valuenow", String(Math.min(device.used, device.total)));
      mark(bar, "aria-valuetext", spoken(device));
      slices.update(shown.map((part) => ({ ...part, share: device.total > 0 ? part.bytes / device.total : 0 })));
      entries.update([...shown, { key: "free", label: "Free", bytes: memoryParts(device).free, tone: "free" }]);
    },
  };
}
