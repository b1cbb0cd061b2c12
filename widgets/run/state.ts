// What a run display shows, put into words.

import type { RunState } from "../shared/protocol";

const NUMBER = new Intl.NumberFormat("en");

export const count = (value: number): string => NUMBER.format(value);

/** A speed with as many digits as tell something. */
export const speed = (value: number): string =>
  value >= 100 ? count(Math.round(value)) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

/** A length of time as one reads it: "4 s", "1 min 15 s", "2 h 5 min". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** What is left, which comes no finer than it is known. */
export const left = (seconds: number): string => `about ${duration(seconds)} left`;

/** Texts that need not be asked any more. */
export const answered = ({ step }: RunState): number =>
  step ? step.known + step.computed + step.failures : 0;

/** What it is doing, in a line. */
export function doing({ phase, step }: RunState): string {
  if (phase === "stopping") return "stopping after this batch";
  if (phase !== "running") return phase;
  if (!step) return "getting ready";
  if (step.note) return step.note;
  return step.seconds_left === null ? "first batch" : left(step.seconds_left);
}

/** The same for a screen reader, now and then. */
export const spoken = (state: RunState): string =>
  `${state.verb}: ${count(answered(state))} of ${count(state.step?.texts ?? 0)} texts, ${doing(state)}`;

/** The figures of a run, as name, value and what it means. */
export function figures({ step }: RunState): [name: string, value: string, meaning: string][] {
  const found: [string, string, string][] = [];
  if (step?.computed) {
    found.push(["speed", `${speed(step.rows_per_second)} texts/s`, "distinct texts a second since it began"]);
    found.push(["tokens", `${speed(step.tokens_per_second)}/s`, "tokens read a second, without padding"]);
  }
  if (step?.computed && step.share_of_limit !== null) {
    const share = Math.round(step.share_of_limit * 100);
    found.push(["of the limit", share ? `${share} %` : "under 1 %", "of the matrix products that this device can do"]);
  }
  if (step?.known) found.push(["from the ledger", count(step.known), "texts that were answered before"]);
  found.push(["time", duration(step?.seconds ?? 0), "since it began"]);
  return found;
}
