import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { type Activity, type Device, type Job, memoryParts, readActivity, shareOf } from "../lab/activity";
import { segments, spoken } from "../lab/memory";
import { NotEnabled } from "../lab/server";
import { DEFAULTS, readSettings } from "../lab/settings";
import { ActivityMonitor, NO_ACTIVITY, pollInterval } from "../lab/monitor";
import { advice, bytes, duration, modelName, news, percent, precision, progress, state, status, title } from "../lab/text";

const plain = (text: string) => text.replaceAll("\u00a0", " ");

function job(change: Partial<Job> = {}): Job {
  return {
    id: "1", verb: "sentiment", output: "review_sentiment", model: "m", state: "running",
    unit: "text", rows: 1200, texts: 1000, answered: 598, known: 30, failed: 2, share: 0.7,
    rows_per_second: 47.3, seconds_left: 125.4, started: 100, updated: 142, cancelling: false, notebook: "a.ipynb",
    kernel: "k", error: "", ...change,
  };
}

const model = { key: "1", name: "m", quantization: "int8", dtype: "bf16", device: "cpu", bytes: 142e6, shares: 1 };
const holding = (...models: (typeof model)[]): Activity => ({
  ...NO_ACTIVITY,
  processes: [{ process: "p", pid: 7, kernel: "k", notebook: null, models }],
});
const of = (...jobs: Job[]): Activity => ({ ...NO_ACTIVITY, jobs });

test("bytes and durations read as people say them", () => {
  expect([0, 999, 142e6, 999.6e6, 3.44e9, 9.96e9, 80e9].map(bytes).map(plain)).toEqual([
    "0.0 kB", "1.0 kB", "142 MB", "1.0 GB", "3.4 GB", "10 GB", "80 GB",
  ]);
  expect([-1, 0.4, 59.4, 59.6, 125.4, 3599.6, 3780].map(duration).map(plain)).toEqual([
    "0 s", "0 s", "59 s", "1 min", "2 min 5 s", "1 h 0 min", "1 h 3 min",
  ]);
});

test("100 % is shown only when all is done", () => {
  expect([0, 0.5999, 0.29, 0.9999, 1].map(percent).map(plain)).toEqual(["0 %", "59 %", "29 %", "99 %", "100 %"]);
});

test("of several jobs each counts by its texts", () => {
  expect(shareOf([job()])).toBe(0.7);
  expect(shareOf([job(), job({ texts: 3000, share: 0.1 })])).toBe(0.25);
  expect(shareOf([])).toBe(1);
});

test("a running job says how far it is, how fast, how long and what failed", () => {
  expect(plain(progress(job()))).toBe("70 % · 600 of 1,000 texts · 47 rows/s · 2 min 5 s left · 2 failed");
  const beginning = { share: 0, answered: 0, failed: 0, rows_per_second: 0, seconds_left: null };
  expect(plain(progress(job(beginning)))).toBe("0 % · 0 of 1,000 texts");
});

test("a job that ended says what it did, in what time, and what the ledger spared it", () => {
  expect(plain(progress(job({ state: "done" })))).toBe("1,200 rows in 42 s · 30 from the ledger · 2 failed");
  expect(plain(progress(job({ state: "lost", known: 0, failed: 0, updated: 100.4 })))).toBe(
    "598 of 1,000 texts in under 1 s",
  );
});

test("a lost job says that its kernel died and that the ledger resumes", () => {
  expect(advice(job({ state: "lost" }))).toBe(
    "Its kernel died while it ran. The ledger kept 598 answers: run the cell again and it goes on from there.",
  );
  expect(advice(job({ state: "lost", answered: 0 }))).toBe("Its kernel died while it ran. Run the cell again.");
  expect(advice(job({ state: "failed", error: "no room" }))).toBe("no room");
  expect(advice(job({ state: "done" }))).toBe("");
});

test("a training counts steps, and goes on from its checkpoint", () => {
  const training = job({ verb: "finetune", output: "tuned", unit: "step", texts: 400, share: 0.3, answered: 120, known: 0, failed: 0 });
  expect(plain(progress(training))).toBe("30 % · 120 of 400 steps · 47 rows/s · 2 min 5 s left");
  expect(plain(progress({ ...training, state: "done" }))).toBe("120 steps in 42 s"); // stopped early
  expect(state({ ...training, cancelling: true })).toBe("Stops after this step");
  expect(advice({ ...training, state: "cancelled" })).toBe(
    "Run the cell again, and it goes on from its last checkpoint if it came to one.",
  );
  expect(news(of(), of(training))).toEqual(["finetune → tuned began, 400 steps."]);
});

test("an unquantized model shows its dtype, and a shared one how often it was loaded", () => {
  expect(plain(precision(model))).toBe("int8 · cpu · 142 MB");
  expect(plain(precision({ ...model, quantization: "none", shares: 2 }))).toBe(
    "bf16 · cpu · 142 MB · loaded 2 times",
  );
});

test("a model that is a path goes by its last part, and one of the hub by its whole name", () => {
  const names = ["smollm2", "owner/name", "/data/models/tiny/", "./tiny", "~/a.gguf", "C:\\models\\tiny", "/"];
  expect(names.map(modelName)).toEqual(["smollm2", "owner/name", "tiny", "tiny", "a.gguf", "tiny", "/"]);
});

test("the status bar shows jobs before models, and nothing where there is neither", () => {
  expect(status(NO_ACTIVITY)).toBe("");
  expect(plain(status(holding(model)))).toBe("m · 142 MB");
  expect(plain(status(holding(model, { ...model, key: "2" })))).toBe("2 models · 284 MB");
  expect(plain(status({ ...holding(model), jobs: [job()] }))).toBe("sentiment 70 % · 2 min 5 s left");
  expect(plain(status(of(job(), job({ id: "2" }), job({ id: "3", state: "done" }))))).toBe("2 jobs 70 %");
});

test("jobs and models that come and go are announced once, and progress is not", () => {
  expect(news(of(), of(job()))).toEqual(["sentiment → review_sentiment began, 1,000 texts."]);
  expect(news(of(job()), of(job({ answered: 700 })))).toEqual([]);
  expect(news(of(job()), of(job({ state: "lost", known: 0, failed: 0 }))).map(plain)).toEqual([
    "sentiment → review_sentiment: Kernel died, 598 of 1,000 texts in 42 s.",
  ]);
  expect(news(NO_ACTIVITY, holding(model))).toEqual(["m was loaded."]);
  expect(news(holding(model), NO_ACTIVITY)).toEqual(["m was unloaded."]);
  expect(title(job({ output: "sentiment" }))).toBe("sentiment");
});

const device: Device = {
  device: "cpu", total: 10e9, used: 4e9,
  models: [{ name: "a", process: "p", bytes: 1e9 }, { name: "b", process: "p", bytes: 0 }],
};

test("memory adds up: models, everything else, and what is free", () => {
  expect(memoryParts(device)).toEqual({ models: [device.models[0]], other: 3e9, free: 6e9 });
  expect(plain(spoken(device))).toBe("4.0 GB of 10 GB in use, a 1.0 GB, Everything else 3.0 GB");
  // Mapped weights that nobody has touched yet are not in use.
  const mapped = { ...device, used: 0.5e9 };
  expect(memoryParts(mapped)).toEqual({ models: [device.models[0]], other: 0, free: 9e9 });
});

test("one model in two processes is two slices", () => {
  const twice = { ...device, models: [1, 2].map((n) => ({ name: "a", process: `p${n}`, bytes: 1e9 })) };
  expect(new Set(segments(twice).map((part) => part.key)).size).toBe(3);
});

test("settings of a wrong kind mean the default", () => {
  expect(readSettings({})).toEqual(DEFAULTS);
  expect(readSettings({ area: "top", launcher: "no", pollInterval: NaN })).toEqual(DEFAULTS);
  expect(readSettings({ area: "right", launcher: false, pollInterval: 1 })).toEqual({
    area: "right", launcher: false, pollInterval: 100,
  });
});

test("an answer of another kind is refused", () => {
  expect(() => readActivity(undefined)).toThrow("one version");
  expect(readActivity({ jobs: [] })).toEqual(NO_ACTIVITY);
});

test("it polls four times a second while a job runs, and rarely otherwise", () => {
  expect(pollInterval(of(job()), false, 250)).toBe(250);
  expect(pollInterval(of(job({ state: "done" })), false, 250)).toBe(5000);
  expect(pollInterval(NO_ACTIVITY, true, 250)).toBe(1000);
  expect(pollInterval(NO_ACTIVITY, true, 8000)).toBe(8000);
});

let visible: () => void = () => {};

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("document", {
    hidden: false,
    addEventListener: (_: string, listener: () => void) => (visible = listener),
  });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

test("one poll at a time, however slow the server and however often `refresh` is called", async () => {
  let [open, most] = [0, 0];
  const fetchActivity = vi.fn(async () => {
    most = Math.max(most, ++open);
    await new Promise((resolve) => setTimeout(resolve, 400));
    open--;
    return of(job());
  });
  const monitor = new ActivityMonitor(fetchActivity);
  for (let i = 0; i < 20; i++) {
    await vi.advanceTimersByTimeAsync(100);
    monitor.refresh();
  }
  expect(most).toBe(1);
  expect(fetchActivity.mock.calls.length).toBeGreaterThanOrEqual(4);
});

test("a running job is polled four times a second, and on a hidden page never", async () => {
  const fetchActivity = vi.fn(async () => of(job()));
  new ActivityMonitor(fetchActivity);
  await vi.advanceTimersByTimeAsync(1000);
  fetchActivity.mockClear();
  await vi.advanceTimersByTimeAsync(3000);
  expect(fetchActivity.mock.calls.length).toBeGreaterThanOrEqual(11);

  (document as { hidden: boolean }).hidden = true;
  fetchActivity.mockClear();
  await vi.advanceTimersByTimeAsync(20_000);
  expect(fetchActivity).not.toHaveBeenCalled();

  (document as { hidden: boolean }).hidden = false;
  visible();
  await vi.advanceTimersByTimeAsync(50);
  expect(fetchActivity).toHaveBeenCalledTimes(1);
});

test("a server without the extension is polled less and less, and reported", async () => {
  const fetchActivity = vi.fn(async (): Promise<Activity> => {
    throw new NotEnabled();
  });
  const random = vi.spyOn(Math, "random").mockReturnValue(0.5); // Poll draws how long it waits
  const monitor = new ActivityMonitor(fetchActivity);
  await vi.advanceTimersByTimeAsync(120_000);
  random.mockRestore();
  expect(fetchActivity.mock.calls.length).toBeLessThan(10);
  expect(monitor.problem).toContain("jupyter server extension enable nbllm.lab");
  expect(monitor.loaded).toBe(false);

  fetchActivity.mockImplementation(async () => of(job()));
  monitor.refresh();
  await vi.advanceTimersByTimeAsync(50);
  expect([monitor.problem, monitor.loaded, monitor.activity.jobs.length]).toEqual(["", true, 1]);
});
