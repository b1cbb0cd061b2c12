// The frame around a view: its connection to the kernel, and what is said where that is busy, gone
// or has failed.

import { h } from "./dom";
import { type Channel, Kernel, KernelGone } from "./kernel";

/** The part of ipywidgets' models that tells when the kernel goes. */
interface Live {
  on(event: "comm_live_update", callback: () => void): void;
  off(event: "comm_live_update", callback: () => void): void;
}

export interface Frame<Connection> {
  root: HTMLElement;
  kernel: Connection;
  /** Says what went wrong; null where all is well again. */
  fail: (error: Error | null) => void;
  close(): void;
}

/** Puts an empty view of a class and a name into an element. */
export function framed<Request extends { kind: string }, Answers extends Record<Request["kind"], unknown>>(
  el: HTMLElement,
  name: { class: string; label: string },
  model: Live,
  channel: Channel,
): Frame<Kernel<Request, Answers>> {
  const status = h("p", { class: "status", role: "status", hidden: true });
  const root = h("div", { class: name.class, role: "group", "aria-label": name.label }, status);
  el.append(root);
  // JupyterLab and Notebook take arrow keys for the notebook, and listen before the view does.
  // They leave an element alone that has this mark itself; on what holds it they look too late.
  root.addEventListener("focusin", ({ target }) =>
    (target as Element).setAttribute("data-lm-suppress-shortcuts", "true"),
  );
  const say = (message: string) => {
    status.textContent = message;
    status.hidden = !message;
  };
  let failure: Error | null = null;
  const fail = (error: Error | null) => {
    if (failure instanceof KernelGone) return; // what is on screen can still be looked at
    root.classList.toggle("gone", error instanceof KernelGone);
    if (error || failure) say(error?.message ?? ""); // else what is said is of a busy kernel
    failure = error;
  };
  const disconnected = () => fail(new KernelGone());
  model.on("comm_live_update", disconnected);
  // An answer ends the waiting, but not what was said of a request that failed.
  const kernel = new Kernel<Request, Answers>(channel, (busy) => {
    // A widget that was saved with its notebook sends, and is neither refused nor answered.
    if (busy && root.closest(".jupyter-widgets-disconnected")) return disconnected();
    // Outside JupyterLab nothing tells; the picture stands in until there is an answer.
    root.classList.toggle("unanswered", busy && !kernel.hasAnswered);
    say(
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
