// What is read of the notebooks and consoles that are open. Their packages are not imported for
// it: only these few members are, which JupyterLab has had since 4.0.

import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { Kernel, ServiceManager } from "@jupyterlab/services";
import type { Widget } from "@lumino/widgets";

import type { Watch } from "./watch";

interface SessionContext {
  session: { kernel: Kernel.IKernelConnection | null } | null;
  statusChanged: {
    connect: (slot: (sender: unknown, status: Kernel.Status) => void) => unknown;
  };
}

interface Cell {
  model: { type: string; sharedModel: { getSource(): string; setSource(source: string): void } };
}

type Document = Widget & {
  sessionContext?: SessionContext;
  content?: { activeCell?: Cell | null };
};

/** The kernel of what is in front, or null. */
export function currentKernel(app: JupyterFrontEnd): string | null {
  const current = app.shell.currentWidget as Document | null;
  return current?.sessionContext?.session?.kernel?.id ?? null;
}

/** Tells the watch which kernels of open documents are at work: these may begin a job. */
export function followKernels(app: JupyterFrontEnd, watch: Watch): void {
  const followed = new WeakSet<SessionContext>();
  const follow = () => {
    for (const widget of app.shell.widgets("main")) {
      const context = (widget as Document).sessionContext;
      if (!context || followed.has(context)) continue;
      followed.add(context);
      context.statusChanged.connect((_, status) => watch.kernel(context, status === "busy"));
      widget.disposed.connect(() => watch.kernel(context, false));
    }
  };
  app.shell.currentChanged?.connect(follow);
  void app.restored.then(follow);
}

/** The path of a kernel's document as it is now, else as it was when the kernel started. */
export function pathOf(services: ServiceManager.IManager, kernel: string | null, announced: string | null): string | null {
  if (kernel !== null) {
    for (const session of services.sessions.running()) {
      if (session.kernel?.id === kernel) return session.path;
    }
  }
  // A path from outside of the server's root cannot be opened here.
  return announced !== null && !announced.startsWith("/") ? announced : null;
}

/** Has a kernel free a model; without a trace in its history or output. */
export async function unload(services: ServiceManager.IManager, id: string, key: string): Promise<void> {
  const model = [...services.kernels.running()].find((kernel) => kernel.id === id);
  const kernel = services.kernels.connectTo({ model: model ?? { id, name: "" } });
  try {
    // A JSON string is also one of Python's.
    const code = `from nbllm.models.in_memory import unload as _nbllm_unload\ntry:\n    _nbllm_unload(${JSON.stringify(key)})\nfinally:\n    del _nbllm_unload`;
    const reply = await kernel.requestExecute({ code, silent: true, store_history: false, allow_stdin: false }).done;
    if (reply.content.status === "error") throw new Error(`${reply.content.ename}: ${reply.content.evalue}`);
  } finally {
    kernel.dispose();
  }
}

/** Whether the document in front has cells. */
export const hasCells = (app: JupyterFrontEnd): boolean =>
  Boolean((app.shell.currentWidget as Document | null)?.content?.activeCell);

/** Puts code into the active cell if that is empty, else into a new one below it. */
export async function insertCode(app: JupyterFrontEnd, source: string): Promise<void> {
  const { content } = (app.shell.currentWidget ?? {}) as Document;
  const isFree = (cell: Cell | null | undefined) =>
    cell?.model.type === "code" && cell.model.sharedModel.getSource().trim() === "";
  if (!isFree(content?.activeCell)) await app.commands.execute("notebook:insert-cell-below");
  if (isFree(content?.activeCell)) content!.activeCell!.model.sharedModel.setSource(source);
}
