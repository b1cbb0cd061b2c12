// Polls the server's activity: often while a job runs, rarely otherwise, never on a hidden page.

import { Poll } from "@lumino/polling";
import { type ISignal, Signal } from "@lumino/signaling";

import { type Activity, running } from "./activity";
import { NotEnabled } from "./server";

const IDLE = 5000; // ms between two polls while nothing runs
const EXPECTING = 1000; // while a kernel is busyInterval, which may start a job or load a model
const UNREACHABLE = 60_000; // at most, while the server does not answer

export const NO_ACTIVITY: Activity = { processes: [], jobs: [], devices: [] };

/** Returns the milliseconds until the next poll. */
export function pollInterval(activity: Activity, expecting: boolean, busyInterval: number): number {
  if (running(activity).length > 0) return busyInterval;
  return expecting ? Math.max(EXPECTING, busyInterval) : Math.max(IDLE, busyInterval);
}

export class ActivityMonitor {
  activity = NO_ACTIVITY;
  problem = ""; // the error of the last poll
  loaded = false; // whether the server has answered once

  private readonly poll: Poll<void>;
  private readonly signal = new Signal<this, void>(this);
  private readonly busyKernels = new Set<object>();
  private interval = 250;
  private polling = false;
  private pollAgain = false; // requested during a poll

  constructor(fetchActivity: () => Promise<Activity>) {
    this.poll = new Poll<void>({
      name: "nbllm:activity",
      factory: async () => {
        this.polling = true;
        try {
          this.activity = await fetchActivity();
          [this.problem, this.loaded] = ["", true];
        } catch (error) {
          this.problem = error instanceof Error ? error.message : String(error);
          if (error instanceof NotEnabled) this.activity = NO_ACTIVITY;
          throw error; // so that the poll backs off
        } finally {
          this.polling = false;
          this.updateInterval();
          this.signal.emit();
          if (this.pollAgain) setTimeout(() => this.refresh());
          this.pollAgain = false;
        }
      },
      frequency: { interval: IDLE, backoff: true, max: UNREACHABLE },
      standby: () => document.hidden,
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.refresh();
    });
  }

  /** Emitted after each poll, successful or not. */
  get changed(): ISignal<this, void> {
    return this.signal;
  }

  /** Polls now or, during a poll, once more after it: `poll.refresh` would start a second one. */
  refresh(): void {
    if (this.polling) this.pollAgain = true;
    else void this.poll.refresh();
  }

  /** Sets the polling interval while a job runs, in ms. */
  setInterval(interval: number): void {
    this.interval = interval;
    this.updateInterval();
  }

  /** Notes whether a kernel is busy. */
  setBusy(key: object, busy: boolean): void {
    if (busy === this.busyKernels.has(key)) return;
    if (busy) this.busyKernels.add(key);
    else this.busyKernels.delete(key);
    this.updateInterval();
    this.refresh();
  }

  private updateInterval(): void {
    const interval = pollInterval(this.activity, this.busyKernels.size > 0, this.interval);
    if (interval !== this.poll.frequency.interval) {
      this.poll.frequency = { interval, backoff: true, max: UNREACHABLE };
    }
  }
}
