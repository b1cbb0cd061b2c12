// The texts of the panel and of its announcements, as pure functions.

import { duration as formatDuration, formatNumber, wholePercent } from "../shared/format";
import { type Activity, type Job, type Model, running, shareOf } from "./activity";

const UNITS = ["kB", "MB", "GB", "TB"];
const NBSP = "\u00a0"; // keeps a number and its unit on one line

/** Formats bytes in powers of 1000, as nbllm.load and downloads do: 142 MB, 3.4 GB. */
export function bytes(count: number): string {
  let [value, unit] = [count / 1000, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)}${NBSP}${UNITS[unit]}`;
}

export const duration = (seconds: number): string => formatDuration(seconds, NBSP);

/** Formats a time: only the time for today, else with the day. */
export function when(seconds: number, now: Date): string {
  const then = new Date(seconds * 1000);
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (then.toDateString() === now.toDateString()) return time;
  return `${then.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

export const percent = (share: number): string => `${wholePercent(share)}${NBSP}%`;

export const counted = (count: number, thing: string): string =>
  `${formatNumber(count)} ${thing}${count === 1 ? "" : "s"}`;

const rate = (perSecond: number): string =>
  `${perSecond < 9.95 ? perSecond.toFixed(1) : formatNumber(Math.round(perSecond))}${NBSP}rows/s`;

const failures = (job: Job): string[] => (job.failed > 0 ? [`${formatNumber(job.failed)}${NBSP}failed`] : []);

const fromLedger = (job: Job): string[] =>
  job.known > 0 ? [`${formatNumber(job.known)} from the ledger`] : [];

/** Returns the title of a job: sentiment → review_sentiment. */
export const title = (job: Job): string =>
  job.output && job.output !== job.verb ? `${job.verb} → ${job.output}` : job.verb;

/** Describes the progress of a running job, or the result of an ended one. */
export function progress(job: Job): string {
  const done = job.answered + job.failed;
  if (job.state === "running") {
    return [
      percent(job.share),
      `${formatNumber(done)} of ${counted(job.texts, job.unit)}`,
      ...(job.rows_per_second > 0 ? [rate(job.rows_per_second)] : []),
      ...(job.seconds_left !== null ? [`${duration(job.seconds_left)}${NBSP}left`] : []),
      ...failures(job),
    ].join(" · ");
  }
  const whole = job.unit === "text" ? counted(job.rows, "row") : counted(done, "step");
  const did = job.state === "done" ? whole : `${formatNumber(done)} of ${counted(job.texts, job.unit)}`;
  const took = job.updated - job.started;
  const time = took < 1 ? `under 1${NBSP}s` : duration(took);
  return [`${did} in ${time}`, ...fromLedger(job), ...failures(job)].join(" · ");
}

/** Describes the state of a job. */
export function state(job: Job): string {
  if (job.state === "running") {
    return job.cancelling ? `Stops after this ${job.unit === "text" ? "batch" : "step"}` : "Running";
  }
  return { done: "Done", failed: "Failed", cancelled: "Cancelled", interrupted: "Interrupted", lost: "Kernel died" }[
    job.state
  ];
}

/** Returns advice on a job that did not end well, else "". */
export function advice(job: Job): string {
  const kept = job.answered > 0 && job.answered < job.texts;
  const resume =
    job.unit === "text"
      ? `The ledger kept ${counted(job.answered, "answer")}: run the cell again and it goes on from there.`
      : "Run the cell again, and it goes on from its last checkpoint if it came to one.";
  switch (job.state) {
    case "lost":
      return `Its kernel died while it ran. ${kept ? resume : "Run the cell again."}`;
    case "failed":
      return job.error;
    case "cancelled":
    case "interrupted":
      return kept ? resume : "";
    default:
      return "";
  }
}

/** Describes a model's precision and device: int8 · cpu · 142 MB. */
export const precision = (model: Model): string =>
  [
    model.quantization && model.quantization !== "none" ? model.quantization : model.dtype,
    model.device,
    bytes(model.bytes),
    ...(model.shares > 1 ? [`loaded ${model.shares} times`] : []),
  ]
    .filter(Boolean)
    .join(" · ");

/** Returns the file name of a path. */
export const basename = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

/** Returns a model's name; of a path, its last part. */
export const modelName = (name: string): string =>
  /^([/~]|\.{1,2}[/\\]|[A-Za-z]:[/\\])/.test(name) ? (name.split(/[/\\]/).filter(Boolean).at(-1) ?? name) : name;

/** Returns the text of the status bar: running jobs and their share done, else models and their bytes, else "". */
export function status(activity: Activity): string {
  const jobs = running(activity);
  if (jobs.length > 0) {
    const left = jobs.length === 1 ? jobs[0]!.seconds_left : null;
    return [
      `${jobs.length === 1 ? jobs[0]!.verb : counted(jobs.length, "job")} ${percent(shareOf(jobs))}`,
      ...(left !== null ? [`${duration(left)}${NBSP}left`] : []),
    ].join(" · ");
  }
  const models = activity.processes.flatMap((process) => process.models);
  if (models.length === 0) return "";
  const held = bytes(models.reduce((sum, model) => sum + model.bytes, 0));
  return `${models.length === 1 ? modelName(models[0]!.name) : counted(models.length, "model")} · ${held}`;
}

const heldModels = (activity: Activity): Map<string, string> =>
  new Map(
    activity.processes.flatMap((process) =>
      process.models.map((model) => [`${process.process} ${model.key}`, modelName(model.name)]),
    ),
  );

/** Returns what a screen reader announces: jobs and models that came or went between two polls. */
export function news(before: Activity, after: Activity): string[] {
  const messages: string[] = [];
  const known = new Map(before.jobs.map((job) => [job.id, job]));
  for (const job of after.jobs) {
    const was = known.get(job.id)?.state;
    if (was === job.state) continue;
    if (job.state === "running") messages.push(`${title(job)} began, ${counted(job.texts, job.unit)}.`);
    else if (was !== undefined || job.answered + job.failed > 0) messages.push(`${title(job)}: ${state(job)}, ${progress(job)}.`);
  }
  const [had, has] = [heldModels(before), heldModels(after)];
  for (const [key, name] of has) if (!had.has(key)) messages.push(`${name} was loaded.`);
  for (const [key, name] of had) if (!has.has(key)) messages.push(`${name} was unloaded.`);
  return messages;
}
