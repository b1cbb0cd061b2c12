// The commands of the palette and the launcher.

import type { JupyterFrontEnd } from "@jupyterlab/application";
import { type ICommandPalette, InputDialog, Notification } from "@jupyterlab/apputils";
import type { IDefaultFileBrowser } from "@jupyterlab/filebrowser";

import { running } from "./activity";
import { currentKernel, hasCells, insertCode, unload } from "./documents";
import { cardIcon, icon } from "./icon";
import { Panel } from "./panel";
import type { Curated, Server } from "./server";
import type { ActivityMonitor } from "./monitor";
import { counted } from "./text";

export const SHOW = "nbllm:show-panel";
export const CANCEL = "nbllm:cancel-jobs";
export const UNLOAD = "nbllm:unload-models";
export const OPEN = "nbllm:open-notebook";
export const INSERT = "nbllm:insert-starter-cell";

const CATEGORY = "nbllm";

const STARTER = `import nbllm
import pandas as pd

df = pd.DataFrame({"review": ["A film that stays with you for days.", "Two hours I want back."]})
df.llm.sentiment("review")`;

/** Shows an error until the user closes it. */
const showError = (error: unknown) =>
  Notification.error(error instanceof Error ? error.message : String(error), { autoClose: false });

export interface CommandOptions {
  app: JupyterFrontEnd;
  server: Server;
  monitor: ActivityMonitor;
  curated: Promise<Curated[]>;
  browser: IDefaultFileBrowser | null;
}

export function addCommands({ app, server, monitor, curated, browser }: CommandOptions): void {
  const { commands, serviceManager } = app;

  commands.addCommand(SHOW, {
    label: "Show Models, Jobs and Memory",
    caption: "Show nbllm's panel",
    icon,
    describedBy: { args: { type: "object", properties: {} } },
    execute: () => app.shell.activateById(Panel.ID),
  });

  commands.addCommand(CANCEL, {
    label: "Cancel All Running Jobs",
    caption: "Each stops after the batch that it computes; the ledger keeps what is done",
    isEnabled: () => running(monitor.activity).length > 0,
    describedBy: { args: { type: "object", properties: {} } },
    execute: async () => {
      const jobs = running(monitor.activity).filter((job) => !job.cancelling);
      const results = await Promise.allSettled(jobs.map((job) => server.cancel(job.id)));
      monitor.refresh();
      const failure = results.find((result) => result.status === "rejected");
      if (failure) showError(failure.reason);
      else Notification.info(`${counted(jobs.length, "job")} will stop after this batch.`, { autoClose: 4000 });
    },
  });

  commands.addCommand(UNLOAD, {
    label: "Unload Models of the Current Kernel",
    caption: "Frees their memory, once the kernel is idle",
    isEnabled: () => held().length > 0,
    describedBy: { args: { type: "object", properties: {} } },
    execute: async () => {
      const kernel = currentKernel(app);
      if (kernel === null) return;
      try {
        await Promise.all(held().map((key) => unload(serviceManager, kernel, key)));
      } catch (error) {
        showError(error);
      }
      monitor.refresh();
    },
  });
  const held = () => {
    const kernel = currentKernel(app);
    return monitor.activity.processes
      .filter((process) => kernel !== null && process.kernel === kernel)
      .flatMap((process) => process.models.map((model) => model.key));
  };

  commands.addCommand(OPEN, {
    label: (args) => (typeof args.title === "string" && args.title ? args.title : "Open a Curated Notebook…"),
    caption: (args) => (typeof args.summary === "string" ? args.summary : "Opens a copy in your folder"),
    icon: (args) => (args.cwd === undefined ? icon : cardIcon), // the launcher names its folder
    describedBy: {
      args: {
        type: "object",
        properties: {
          name: { type: "string", description: "The notebook's file name; without one, the user picks one" },
          title: { type: "string", description: "What the command is called in a menu" },
          summary: { type: "string", description: "What a menu says about it" },
          cwd: { type: "string", description: "The folder that gets the copy" },
        },
      },
    },
    execute: async (args) => {
      try {
        const name = typeof args.name === "string" ? args.name : await pickNotebook(await curated);
        if (name === null) return;
        const folder = typeof args.cwd === "string" ? args.cwd : (browser?.model.path ?? "");
        const path = await server.copy(name, folder);
        return await commands.execute("docmanager:open", { path });
      } catch (error) {
        showError(error);
      }
    },
  });

  commands.addCommand(INSERT, {
    label: "Insert Starter Cell",
    caption: "A first DataFrame through a model, to run and to change",
    isEnabled: () => hasCells(app),
    describedBy: { args: { type: "object", properties: {} } },
    execute: () => insertCode(app, STARTER),
  });
}

/** Lets the user pick a notebook; returns its name, or null. */
async function pickNotebook(notebooks: readonly Curated[]): Promise<string | null> {
  if (notebooks.length === 0) throw new Error("The server offers no notebooks.");
  const titles = notebooks.map((notebook) => notebook.title || notebook.name);
  const answer = await InputDialog.getItem({
    title: "Open a copy of which notebook?",
    items: titles,
    okLabel: "Open",
  });
  const index = answer.button.accept && answer.value !== null ? titles.indexOf(answer.value) : -1;
  return notebooks[index]?.name ?? null;
}

export function addToPalette(palette: ICommandPalette): void {
  for (const command of [SHOW, CANCEL, UNLOAD, OPEN, INSERT]) {
    palette.addItem({ command, category: CATEGORY });
  }
}
