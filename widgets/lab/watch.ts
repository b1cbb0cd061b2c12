// Looks at the server's activity: often while a job runs, seldom otherwise, never unseen.

import { Poll } from "@lumino/polling";
import { type ISignal, Signal } from "@lumino/signaling";

import { type Activity, running } from "./activity";
import { NotEnabled } from "./server";

const IDLE = 5000; // ms between two looks where nothing runs
const EXPECTING = 1000; // while a kernel is at work, which may begin a job or load a model
const UNREACHABLE = 60_000; // at most, while the server cannot be asked

export const NOTHING: Activity = { processes: [], jobs: [], devices: [] };

/** Milliseconds until the next look. */
export function pause(activity: Activity, expecting: boolean, busy: number): number {
  if (running(activity).length > 0) return busy;
  return expecting ? Math.max(EXPECTING, busy) : Math.max(IDLE, busy);
}

export class Watch {
  activity = NOTHING;
  problem = ""; // why `activity` is not up to date
  loaded = false; // whether the server has answered once

  private readonly poll: Poll<void>;
  private readonly signal = new Signal<this, void>(this);
  private readonly busyKernels = new Set<object>();
  private interval = 250;
  private looking = false;
  private again = false; // someone asked while a look was under way

  constructor(look: () => Promise<Activity>) {
    this.poll = new Poll<void>({
      name: "nbllm:activity",
      factory: async () => {
        this.looking = true;
        try {
          this.activity = await look();
          [this.problem, this.loaded] = ["", true];
        } catch (error) {
          this.problem = error instanceof Error ? error.message : String(error);
          if (error instanceof NotEnabled) this.activity = NOTHING;
          throw error; // so that the poll backs off
        } finally {
          this.looking = false;
          this.pace();
          this.signal.emit();
          if (this.again) setTimeout(() => this.now());
          this.again = false;
        }
      },
      frequency: { interval: IDLE, backoff: true, max: UNREACHABLE },
      standby: () => document.hidden,
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.now();
    });
  }

  /** Emitted after each look, whether it brought news or a problem. */
  get changed(): ISignal<this, void> {
    return this.signal;
  }

  /** Look now, or once more after the look that is under way: a poll would start a second. */
  now(): void {
    if (this.looking) this.again = true;
    else void this.poll.refresh();
  }

  /** The pause while a job runs, in ms. */
  setInterval(interval: number): void {
    this.interval = interval;
    this.pace();
  }

  /** Whether a kernel is at work. */
  kernel(key: object, busy: boolean): void {
    if (busy === this.busyKernels.has(key)) return;
    if (busy) this.busyKernels.add(key);
    else this.busyKernels.delete(key);
    this.pace();
    this.now();
  }

  private pace(): void {
    const interval = pause(this.activity, this.busyKernels.size > 0, this.interval);
    if (interval !== this.poll.frequency.interval) {
      this.poll.frequency = { interval, backoff: true, max: UNREACHABLE };
    }
  }
}
