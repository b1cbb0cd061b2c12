import { describe, expect, it } from "vitest";

import { figures, finished, speed, spoken, statusText } from "../run/state";
import { duration } from "../shared/format";
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

describe("texts of the run display", () => {
  it("counts finished texts", () => expect(finished(state)).toBe(602));

  it("describes the status", () => {
    expect(statusText(state)).toBe("about 40 s left");
    expect(statusText(at({ seconds_left: null }))).toBe("first batch");
    expect(statusText(at({ note: "getting ready" }))).toBe("getting ready");
    expect(statusText({ ...state, step: null })).toBe("getting ready");
    expect(statusText({ ...state, phase: "stopping" })).toBe("stopping after this batch");
    expect(statusText({ ...state, phase: "cancelled" })).toBe("cancelled");
    expect(spoken(state)).toBe("sentiment: 602 of 1,200 texts, about 40 s left");
  });

  it("formats durations and speeds", () => {
    expect([59.4, 75, 120, 7200, 7265].map((seconds) => duration(seconds))).toEqual([
      "59 s", "1 min 15 s", "2 min", "2 h 0 min", "2 h 1 min",
    ]);
    expect([0.123, 12.34, 1234.6].map(speed)).toEqual(["0.12", "12.3", "1,235"]);
  });

  it("shows only the figures that are known", () => {
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
