// The answer of GET nbllm/activity, and figures computed from it.

export interface Model {
  key: string; // identifies it in `unload`
  name: string;
  quantization: string;
  dtype: string;
  device: string;
  bytes: number;
  shares: number;
}

export interface Process {
  process: string;
  pid: number;
  kernel: string | null;
  notebook: string | null; // below the server's root, where it is
  models: Model[];
}

export type State = "running" | "done" | "failed" | "cancelled" | "interrupted" | "lost";

export interface Job {
  id: string;
  verb: string;
  output: string;
  model: string;
  state: State;
  rows: number;
  unit: "text" | "step"; // of a verb or of a training
  texts: number; // distinct ones, or steps; the counts below are of these
  answered: number; // those of the ledger among them
  known: number; // answers that the ledger had
  failed: number;
  share: number; // of the work that is done, 0 to 1: texts differ in what they take
  rows_per_second: number;
  seconds_left: number | null;
  started: number; // seconds since 1970, as is `updated`
  updated: number;
  cancelling: boolean;
  notebook: string | null;
  kernel: string | null;
  error: string;
}

export interface Device {
  device: string;
  total: number; // bytes, as is `used`
  used: number;
  models: { name: string; process: string; bytes: number }[];
}

export interface Activity {
  processes: Process[];
  jobs: Job[]; // newest first
  devices: Device[];
}

/** Validates an answer; missing parts are empty. Throws an Error for any other answer. */
export function readActivity(answer: unknown): Activity {
  if (typeof answer !== "object" || answer === null || !("jobs" in answer)) {
    throw new Error("The server's answer is not what nbllm's panel reads: are both of one version?");
  }
  const { processes = [], jobs = [], devices = [] } = answer as Partial<Activity>;
  return { processes, jobs, devices };
}

export const running = (activity: Activity): Job[] =>
  activity.jobs.filter((job) => job.state === "running");

/** Returns the share of work done over some jobs, weighted by their texts. */
export function shareOf(jobs: readonly Job[]): number {
  const texts = jobs.reduce((sum, job) => sum + job.texts, 0);
  return texts > 0 ? jobs.reduce((sum, job) => sum + job.share * job.texts, 0) / texts : 1;
}

/** Splits a device's memory into models, everything else, and free memory, in bytes. */
export function memoryParts(device: Device): { models: Device["models"]; other: number; free: number } {
  const models = device.models.filter((model) => model.bytes > 0);
  const held = models.reduce((sum, model) => sum + model.bytes, 0);
  // Memory-mapped weights may not count as used yet.
  const used = Math.min(Math.max(device.used, held), device.total);
  return { models, other: Math.max(used - held, 0), free: device.total - used };
}
