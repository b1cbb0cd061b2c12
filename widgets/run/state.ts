// What a run tells, as nbllm/widgets/run.py writes it, and how it is put into words.

export interface Told {
  step: string;
  column: string;
  model: string;
  texts: number;
  rows: number;
  known: number;
  computed: number;
  failures: number;
  seconds: number;
}

export type Phase = "running" | "stopping" | "done" | "failed" | "cancelled" | "interrupted";

export interface State extends Partial<Told> {
  verb: string;
  output: string;
  phase: Phase;
  summary?: string; // HTML without script, once it has ended
  steps: Told[];
  job?: string | null;
  keeps?: boolean; // whether answers are filed in the ledger
  note?: string;
  share?: number;
  secondsLeft?: number | null;
  rowsPerSecond?: number;
  tokensPerSecond?: number;
  shareOfLimit?: number | null;
  labels?: [label: string, rows: number][];
  otherLabels?: [labels: number, rows: number] | null;
  failed?: [row: string, error: string][];
  slowest?: [row: string, seconds: number][];
  latest?: [row: string, text: string][];
}

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
export const answered = ({ known = 0, computed = 0, failures = 0 }: State): number =>
  known + computed + failures;

/** What it is doing, in a line. */
export function doing(state: State): string {
  if (state.phase === "stopping") return "stopping after this batch";
  if (state.phase !== "running") return state.phase;
  if (state.note || state.share === undefined) return state.note || "getting ready";
  return state.secondsLeft == null ? "first batch" : left(state.secondsLeft);
}

/** The same for who hears it, told now and then. */
export const spoken = (state: State): string =>
  `${state.verb}: ${count(answered(state))} of ${count(state.texts ?? 0)} texts, ${doing(state)}`;

/** The figures of a run, as name, value and what it means. */
export function figures(state: State): [name: string, value: string, meaning: string][] {
  const found: [string, string, string][] = [];
  if (state.computed) {
    found.push(["speed", `${speed(state.rowsPerSecond ?? 0)} texts/s`, "distinct texts a second since it began"]);
    found.push(["tokens", `${speed(state.tokensPerSecond ?? 0)}/s`, "tokens read a second, without padding"]);
  }
  if (state.shareOfLimit != null && state.computed) {
    const share = Math.round(state.shareOfLimit * 100);
    found.push(["of the limit", share ? `${share} %` : "under 1 %", "of the matrix products that this device can do"]);
  }
  if (state.known) found.push(["from the ledger", count(state.known), "texts that were answered before"]);
  found.push(["time", duration(state.seconds ?? 0), "since it began"]);
  return found;
}
