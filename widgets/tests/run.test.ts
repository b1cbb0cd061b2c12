import { describe, expect, it } from "vitest";

import { answered, doing, duration, figures, left, speed, spoken } from "../run/state";
import type { RunState, RunStep } from "../shared/protocol";

const step: RunStep = {
  verb: "sentiment",
  column: "mood",
  model: "m",
  job: "1",
  keeps: true,
  note: "",
  share: 0.5,
  seconds_left: 40,
  texts: 1200,
  rows: 1200,
  known: 100,
  computed: 500,
  failures: 2,
  seconds: 61,
  rows_per_second: 8.2,
  tokens_per_second: 1234.6,
  share_of_limit: 0.004,
  labels: [],
  other_labels: null,
  failed: [],
  slowest: [],
  latest: [],
};
const state: RunState = { verb: "sentiment", output: "mood", phase: "running", steps: [], step };
const at = (change: Partial<RunStep>): RunState => ({ ...state, step: { ...step, ...change } });

describe("what a run says", () => {
  it("counts what need not be asked any more", () => expect(answered(state)).toBe(602));

  it("says what it is doing", () => {
    expect(doing(state)).toBe("about 40 s left");
    expect(doing(at({ seconds_left: null }))).toBe("first batch");
    expect(doing(at({ note: "getting ready" }))).toBe("getting ready");
    expect(doing({ ...state, step: null })).toBe("getting ready");
    expect(doing({ ...state, phase: "stopping" })).toBe("stopping after this batch");
    expect(doing({ ...state, phase: "cancelled" })).toBe("cancelled");
    expect(spoken(state)).toBe("sentiment: 602 of 1,200 texts, about 40 s left");
  });

  it("tells what is left", () => {
    expect([3, 20, 60, 140, 7200].map(left)).toEqual([
      "about 3 s left", "about 20 s left", "about 1 min left", "about 2 min 20 s left",
      "about 2 h 0 min left",
    ]);
  });

  it("tells lengths of time and speeds", () => {
    expect([59.4, 75, 120, 7265].map(duration)).toEqual(["59 s", "1 min 15 s", "2 min", "2 h 1 min"]);
    expect([0.123, 12.34, 1234.6].map(speed)).toEqual(["0.12", "12.3", "1,235"]);
  });

  it("has its figures, and none of what is not known", () => {
    expect(Object.fromEntries(figures(state).map(([name, value]) => [name, value]))).toEqual({
      speed: "8.20 texts/s",
      tokens: "1,235/s",
      "of the limit": "under 1 %",
      "from the ledger": "100",
      time: "1 min 1 s",
    });
    const names = figures(at({ computed: 0, known: 0 })).map(([name]) => name);
    expect(names).toEqual(["time"]);
  });
});
