// The plugin for JupyterLab and, where it has the same areas, Notebook 7.

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { IDefaultFileBrowser } from "@jupyterlab/filebrowser";
import { ILauncher } from "@jupyterlab/launcher";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { IStatusBar } from "@jupyterlab/statusbar";

import { addCommands, addToPalette, OPEN, SHOW } from "./commands";
import { followKernels, pathOf, unload } from "./documents";
import { LauncherSection } from "./launcher";
import type { Tool } from "./memory";
import { Panel } from "./panel";
import { Server } from "./server";
import { DEFAULTS, followSettings } from "./settings";
import { Status } from "./status";
import { ActivityMonitor } from "./monitor";

const ID = "nbllm:plugin"; // also the name of its settings' schema
const RANK = 650; // in the sidebar, after JupyterLab's own

// Panels of other extensions that show more of a machine than nbllm draws.
const TOOLS = [
  { id: "kernelusage-panel-id", label: "Usage of each kernel (jupyter-resource-usage)" },
  { id: "gpu-dashboard", label: "GPU dashboards (nvdashboard)" },
];

const plugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Shows models, jobs and memory of nbllm, and opens its notebooks.",
  autoStart: true,
  optional: [ICommandPalette, IDefaultFileBrowser, ILauncher, ILayoutRestorer, ISettingRegistry, IStatusBar],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    browser: IDefaultFileBrowser | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    registry: ISettingRegistry | null,
    statusBar: IStatusBar | null,
  ) => {
    const { commands, serviceManager } = app;
    const server = new Server(serviceManager.serverSettings);
    const monitor = new ActivityMonitor(() => server.activity());
    const curated = server.notebooks().catch(() => []); // the monitor reports the problem

    addCommands({ app, server, monitor, curated, browser });
    if (palette) addToPalette(palette);
    followKernels(app, monitor);

    const panel = new Panel(monitor, {
      notebookOf: (kernel, announced) => pathOf(serviceManager, kernel, announced),
      open: (path) => void commands.execute("docmanager:open", { path }),
      openCurated: (name) => void commands.execute(OPEN, { name }),
      cancel: (job) => server.cancel(job).finally(() => monitor.refresh()),
      unload: (kernel, key) => unload(serviceManager, kernel, key).finally(() => monitor.refresh()),
      tools: () => tools(app),
    });
    void curated.then((notebooks) => panel.setNotebooks(notebooks));
    let area = DEFAULTS.area;
    app.shell.add(panel, area, { rank: RANK });
    restorer?.add(panel, Panel.ID);

    if (statusBar) {
      const item = new Status(monitor, () => void commands.execute(SHOW));
      statusBar.registerStatusItem(ID, {
        item,
        align: "left",
        rank: 10,
        isActive: () => item.active,
        activeStateChanged: item.activeChanged,
      });
    }

    const section = launcher && new LauncherSection(launcher, curated);
    void followSettings(registry, ID, (settings) => {
      monitor.setInterval(settings.pollInterval);
      void section?.show(settings.launcher);
      if (settings.area === area) return;
      area = settings.area;
      // Restoring the layout would undo an earlier move.
      void app.restored.then(() => app.shell.add(panel, area, { rank: RANK }));
    });
  },
};

/** Returns the installed tools, each opening its panel. */
function tools(app: JupyterFrontEnd): Tool[] {
  const present = new Set(
    ["left", "right"].flatMap((area) => [...app.shell.widgets(area)].map((widget) => widget.id)),
  );
  return TOOLS.filter(({ id }) => present.has(id)).map(({ id, label }) => ({
    label,
    open: () => app.shell.activateById(id),
  }));
}

export default plugin;
