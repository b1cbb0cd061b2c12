// The launcher's section: a card for each curated notebook.

import type { ILauncher } from "@jupyterlab/launcher";

import { OPEN } from "./commands";
import type { Curated } from "./server";

export class LauncherSection {
  private cards: ReturnType<ILauncher["add"]>[] = [];
  private shown = false;

  constructor(
    private readonly launcher: ILauncher,
    private readonly curated: Promise<Curated[]>,
  ) {}

  async show(shown: boolean): Promise<void> {
    this.shown = shown;
    const notebooks = await this.curated;
    if (this.shown !== shown) return; // the setting has changed again
    for (const card of this.cards.splice(0)) card.dispose();
    if (!shown) return;
    this.cards = notebooks.map(({ name, title, summary }, rank) =>
      this.launcher.add({ command: OPEN, args: { name, title, summary }, category: "nbllm", rank }),
    );
  }
}
