// Activity in words. Pure, so that what is shown, announced and tested is one text.

import { wholePercent as whole } from "../shared/progress";
import { type Activity, type Job, type Model, running, shareOf } from "./activity";

export { whole };

const UNITS = ["kB", "MB", "GB", "TB"];
const NBSP = "\u00a0"; // a line never ends between a number and its unit

/** Bytes as people read them: 142 MB, 3.4 GB. Powers of 1000, as nbllm.load and downloads count. */
export function bytes(count: number): string {
  let [value, unit] = [count / 1000, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)}${NBSP}${UNITS[unit]}`;
}

/** Seconds as people read them: 9 s, 2 min, 2 min 5 s, 1 h 3 min. */
export function duration(seconds: number): string {
  const whole = Math.max(Math.round(seconds), 0);
  const units: [number, string][] =
    whole < 60 ? [[whole, "s"]]
    : whole < 3600 ? [[Math.floor(whole / 60), "min"], ...(whole % 60 ? [[whole % 60, "s"] as [number, string]] : [])]
    : [[Math.floor(whole / 3600), "h"], [Math.floor((whole % 3600) / 60), "min"]];
  return units.map(([count, unit]) => `${count}${NBSP}${unit}`).join(NBSP);
}

/** When something was: the time of today, the day and time of another day. */
export function when(seconds: number, now: Date): string {
  const then = new Date(seconds * 1000);
  const time = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (then.toDateString() === now.toDateString()) return time;
  return `${then.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

export const number = (value: number): string => value.toLocaleString("en");

/** Whole per cent; all only when it is all. */
export const percent = (part: number): string => `${whole(part)}${NBSP}%`;

export const counted = (count: number, thing: string): string =>
  `${number(count)} ${thing}${count === 1 ? "" : "s"}`;

const rate = (perSecond: number): string =>
  `${perSecond < 9.95 ? perSecond.toFixed(1) : number(Math.round(perSecond))}${NBSP}rows/s`;

const failures = (job: Job): string[] => (job.failed > 0 ? [`${number(job.failed)}${NBSP}failed`] : []);

const remembered = (job: Job): string[] =>
  job.known > 0 ? [`${number(job.known)} from the ledger`] : [];

/** What a job does: sentiment → review_sentiment. */
export const title = (job: Job): string =>
  job.output && job.output !== job.verb ? `${job.verb} → ${job.output}` : job.verb;

/** How far a running job is, or how one ended, with its figures. */
export function progress(job: Job): string {
  const done = job.answered + job.failed;
  if (job.state === "running") {
    return [
      percent(job.share),
      `${number(done)} of ${counted(job.texts, job.unit)}`,
      ...(job.rows_per_second > 0 ? [rate(job.rows_per_second)] : []),
      ...(job.seconds_left !== null ? [`${duration(job.seconds_left)}${NBSP}left`] : []),
      ...failures(job),
    ].join(" · ");
  }
  const whole = job.unit === "text" ? counted(job.rows, "row") : counted(done, "step");
  const did = job.state === "done" ? whole : `${number(done)} of ${counted(job.texts, job.unit)}`;
  const took = job.updated - job.started;
  const time = took < 1 ? `under 1${NBSP}s` : duration(took);
  return [`${did} in ${time}`, ...remembered(job), ...failures(job)].join(" · ");
}

/** The state in words. */
export function state(job: Job): string {
  if (job.state === "running") {
    return job.cancelling ? `Stops after this ${job.unit === "text" ? "batch" : "step"}` : "Running";
  }
  return { done: "Done", failed: "Failed", cancelled: "Cancelled", interrupted: "Interrupted", lost: "Kernel died" }[
    job.state
  ];
}

/** What to do about a job that did not end well; empty where there is nothing to say. */
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

/** A model's precision and place: int8 · cpu · 142 MB. */
export const precision = (model: Model): string =>
  [
    model.quantization && model.quantization !== "none" ? model.quantization : model.dtype,
    model.device,
    bytes(model.bytes),
    ...(model.shares > 1 ? [`loaded ${model.shares} times`] : []),
  ]
    .filter(Boolean)
    .join(" · ");

/** The file's name of a path. */
export const basename = (path: string): string => path.slice(path.lastIndexOf("/") + 1);

/** A model's name; of one that is a path, its last part. */
export const modelName = (name: string): string =>
  /^([/~]|\.{1,2}[/\\]|[A-Za-z]:[/\\])/.test(name) ? (name.split(/[/\\]/).filter(Boolean).at(-1) ?? name) : name;

/** The status bar: running jobs with the share done, else models with their bytes, else nothing. */
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

const held = (activity: Activity): Map<string, string> =>
  new Map(
    activity.processes.flatMap((process) =>
      process.models.map((model) => [`${process.process} ${model.key}`, modelName(model.name)]),
    ),
  );

/** What a listener should hear: what began, ended, came and went between two looks. */
export function news(before: Activity, after: Activity): string[] {
  const said: string[] = [];
  const known = new Map(before.jobs.map((job) => [job.id, job]));
  for (const job of after.jobs) {
    const was = known.get(job.id)?.state;
    if (was === job.state) continue;
    if (job.state === "running") said.push(`${title(job)} began, ${counted(job.texts, job.unit)}.`);
    else if (was !== undefined || job.answered + job.failed > 0) said.push(`${title(job)}: ${state(job)}, ${progress(job)}.`);
  }
  const [had, has] = [held(before), held(after)];
  for (const [key, name] of has) if (!had.has(key)) said.push(`${name} was loaded.`);
  for (const [key, name] of had) if (!has.has(key)) said.push(`${name} was unloaded.`);
  return said;
}
