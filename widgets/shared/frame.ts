// The frame of a view: its connection to the kernel, and a status line for a kernel that is busy,
// gone or has failed.

import { h } from "./dom";
import { type Channel, Kernel, KernelGone } from "./kernel";

/** The part of ipywidgets' models that reports the end of the kernel. */
interface Live {
  on(event: "comm_live_update", callback: () => void): void;
  off(event: "comm_live_update", callback: () => void): void;
}

export interface Frame<Connection> {
  root: HTMLElement;
  kernel: Connection;
  /** Shows an error; null removes it. */
  fail: (error: Error | null) => void;
  close(): void;
}

/** Adds an empty view to an element. */
export function createFrame<Request extends { kind: string }, Answers extends Record<Request["kind"], unknown>>(
  el: HTMLElement,
  name: { class: string; label: string },
  model: Live,
  channel: Channel,
): Frame<Kernel<Request, Answers>> {
  const status = h("p", { class: "status", role: "status", hidden: true });
  const root = h("div", { class: name.class, role: "group", "aria-label": name.label }, status);
  el.append(root);
  // JupyterLab and Notebook handle arrow keys before the view does, unless the focused element itself
  // has this attribute.
  root.addEventListener("focusin", ({ target }) =>
    (target as Element).setAttribute("data-lm-suppress-shortcuts", "true"),
  );
  const showStatus = (message: string) => {
    status.textContent = message;
    status.hidden = !message;
  };
  let failure: Error | null = null;
  const fail = (error: Error | null) => {
    if (failure instanceof KernelGone) return; // the view stays usable with what it has
    root.classList.toggle("gone", error instanceof KernelGone);
    if (error || failure) showStatus(error?.message ?? ""); // otherwise the status is about a busy kernel
    failure = error;
  };
  const disconnected = () => fail(new KernelGone());
  model.on("comm_live_update", disconnected);
  // An answer replaces the busy message by the last error, if there was one.
  const kernel = new Kernel<Request, Answers>(channel, (busy) => {
    // A widget saved with its notebook can send, but gets neither an error nor an answer.
    if (busy && root.closest(".jupyter-widgets-disconnected")) return disconnected();
    // Other front ends do not report this; the static picture is shown until there is an answer.
    root.classList.toggle("unanswered", busy && !kernel.hasAnswered);
    showStatus(
      busy
        ? "Waiting for the kernel: it is busy with another cell, or it has stopped."
        : (failure?.message ?? ""),
    );
  });
  return {
    root,
    kernel,
    fail,
    close() {
      model.off("comm_live_update", disconnected);
      kernel.close();
      root.remove();
    },
  };
}
