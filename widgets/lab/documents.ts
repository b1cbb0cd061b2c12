// Access to open notebooks and consoles. Their packages are not imported: these few members, which
// JupyterLab has had since 4.0, are all that is used.

import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { Kernel, ServiceManager } from "@jupyterlab/services";
import type { Widget } from "@lumino/widgets";

import type { ActivityMonitor } from "./monitor";

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

/** Returns the id of the current document's kernel, or null. */
export function currentKernel(app: JupyterFrontEnd): string | null {
  const current = app.shell.currentWidget as Document | null;
  return current?.sessionContext?.session?.kernel?.id ?? null;
}

/** Reports to the monitor which kernels of open documents are busy, since these may start a job. */
export function followKernels(app: JupyterFrontEnd, monitor: ActivityMonitor): void {
  const followed = new WeakSet<SessionContext>();
  const follow = () => {
    for (const widget of app.shell.widgets("main")) {
      const context = (widget as Document).sessionContext;
      if (!context || followed.has(context)) continue;
      followed.add(context);
      context.statusChanged.connect((_, status) => monitor.setBusy(context, status === "busy"));
      widget.disposed.connect(() => monitor.setBusy(context, false));
    }
  };
  app.shell.currentChanged?.connect(follow);
  void app.restored.then(follow);
}

/** Returns the current path of a kernel's document, else the path when the kernel started. */
export function pathOf(services: ServiceManager.IManager, kernel: string | null, announced: string | null): string | null {
  if (kernel !== null) {
    for (const session of services.sessions.running()) {
      if (session.kernel?.id === kernel) return session.path;
    }
  }
  // A path outside the server's root cannot be opened here.
  return announced !== null && !announced.startsWith("/") ? announced : null;
}

/** Unloads a model in its kernel, leaving no trace in its history or output. */
export async function unload(services: ServiceManager.IManager, id: string, key: string): Promise<void> {
  const model = [...services.kernels.running()].find((kernel) => kernel.id === id);
  const kernel = services.kernels.connectTo({ model: model ?? { id, name: "" } });
  try {
    // A JSON string is also a Python string.
    const code = `from nbllm.models.in_memory import unload as _nbllm_unload\ntry:\n    _nbllm_unload(${JSON.stringify(key)})\nfinally:\n    del _nbllm_unload`;
    const reply = await kernel.requestExecute({ code, silent: true, store_history: false, allow_stdin: false }).done;
    if (reply.content.status === "error") throw new Error(`${reply.content.ename}: ${reply.content.evalue}`);
  } finally {
    kernel.dispose();
  }
}

/** Returns whether the current document has cells. */
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
