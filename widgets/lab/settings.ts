// The user's settings, with defaults for an unreadable file and for values of a wrong type.

import type { ISettingRegistry } from "@jupyterlab/settingregistry";

export interface Settings {
  area: "left" | "right";
  launcher: boolean;
  pollInterval: number; // ms
}

export const DEFAULTS: Settings = { area: "left", launcher: true, pollInterval: 250 };

/** Returns the settings in a file's content. */
export function readSettings(composite: Record<string, unknown>): Settings {
  const { area, launcher, pollInterval } = composite;
  return {
    area: area === "right" ? "right" : DEFAULTS.area,
    launcher: typeof launcher === "boolean" ? launcher : DEFAULTS.launcher,
    pollInterval:
      typeof pollInterval === "number" && Number.isFinite(pollInterval)
        ? Math.min(Math.max(pollInterval, 100), 10_000)
        : DEFAULTS.pollInterval,
  };
}

/** Calls back with the settings now and whenever they change. */
export async function followSettings(
  registry: ISettingRegistry | null,
  id: string,
  apply: (settings: Settings) => void,
): Promise<void> {
  if (registry === null) return apply(DEFAULTS);
  try {
    const settings = await registry.load(id);
    const changed = () => apply(readSettings(settings.composite as Record<string, unknown>));
    settings.changed.connect(changed);
    changed();
  } catch (error) {
    console.warn("nbllm's settings could not be read, so its defaults hold.", error);
    apply(DEFAULTS);
  }
}
