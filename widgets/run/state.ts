// The texts of the run display.

import { duration, formatNumber } from "../shared/format";

import type { RunState } from "../shared/protocol";

/** Formats a speed with three significant digits. */
export const speed = (value: number): string =>
  value >= 100 ? formatNumber(Math.round(value)) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

/** Returns the number of texts that have an answer or an error. */
export const finished = ({ step }: RunState): number =>
  step ? step.known + step.computed + step.failures : 0;

/** Returns the status of a run, in one line. */
export function statusText({ phase, step }: RunState): string {
  if (phase === "stopping") return "stopping after this batch";
  if (phase !== "running") return phase;
  if (!step) return "getting ready";
  if (step.note) return step.note;
  return step.seconds_left === null ? "first batch" : `about ${duration(step.seconds_left)} left`;
}

/** Returns the status for screen readers. */
export const spoken = (state: RunState): string =>
  `${state.verb}: ${formatNumber(finished(state))} of ${formatNumber(state.step?.texts ?? 0)} texts, ${statusText(state)}`;

/** Returns the figures of a run: name, value and meaning. */
export function figures({ step }: RunState): [name: string, value: string, meaning: string][] {
  const rows: [string, string, string][] = [];
  if (step?.computed) {
    rows.push(["speed", `${speed(step.rows_per_second)} texts/s`, "distinct texts per second since it began"]);
    rows.push(["tokens", `${speed(step.tokens_per_second)}/s`, "tokens read per second, without padding"]);
  }
  if (step?.computed && step.share_of_limit !== null) {
    const share = Math.round(step.share_of_limit * 100);
    rows.push(["of the limit", share ? `${share} %` : "under 1 %", "of the matrix products that this device can do"]);
  }
  if (step?.known) rows.push(["from the ledger", formatNumber(step.known), "texts that were answered before"]);
  rows.push(["time", duration(step?.seconds ?? 0), "since it began"]);
  return rows;
}
