import { expect, test } from "vitest";

import { keysOf } from "../explorer/keys";
import type { Kernel, Outline, RowWindow } from "../explorer/outline";
import { EMPTY, isOpen, sortedBy } from "../explorer/query";
import { Rows } from "../explorer/rows";
import type { Answer } from "../shared/kernel";
import type { NoContent, RowsRequest } from "../shared/protocol";

const windowOf = (start: number, stop: number, total: number): RowWindow => {
  const rows = Array.from({ length: Math.min(stop, total) - start }, (_, n) => 1000 + start + n);
  return {
    start, total, rows,
    index: rows.map(String),
    cells: [rows.map((row) => `text ${row}`)],
    corrections: rows.map(() => null),
    wrong: rows.map(() => false),
    failed: rows.map(() => false),
  };
};

/** A kernel whose answers wait until they are let go. */
class Slow {
  requests: RowsRequest[] = [];
  go: (() => void)[] = [];

  request(request: RowsRequest): Promise<Answer<NoContent>> {
    this.requests.push(request);
    const window = windowOf(request.start, request.stop, 150);
    const buffers = [new TextEncoder().encode(JSON.stringify(window)).buffer as ArrayBuffer];
    return new Promise((resolve) => this.go.push(() => resolve({ content: {}, buffers })));
  }
}

const outline = { size: 100_000 } as Outline;
const made = (kernel: Slow) =>
  new Rows(kernel as unknown as Kernel, outline, EMPTY, 0, windowOf(0, 40, 100_000));

test("the first rows need no request", async () => {
  const kernel = new Slow();
  const rows = made(kernel);
  expect(await rows.fetch(0, 13)).toBe(true);
  expect(kernel.requests).toHaveLength(0);
  expect(rows.at(12)).toMatchObject({ place: 12, row: 1012, cells: ["text 1012"] });
});

test("rows are fetched in blocks, each once", async () => {
  const kernel = new Slow();
  const rows = made(kernel);
  const first = rows.fetch(60, 70);
  const again = rows.fetch(65, 66);
  expect(kernel.requests.map(({ start, stop }) => [start, stop])).toEqual([[0, 64], [64, 128]]);
  for (const go of kernel.go) go();
  expect(await first).toBe(true);
  expect(await again).toBe(true);
  expect(rows.at(69)!.row).toBe(1069);
  expect(rows.total).toBe(150);
  expect(rows.at(140)).toBeUndefined();
});

test("an answer to an older query is not shown", async () => {
  const kernel = new Slow();
  const rows = made(kernel);
  const old = rows.fetch(64, 70);
  rows.reset({ ...EMPTY, text: "soup" }, 0);
  kernel.go[0]!();
  expect(await old).toBe(false);
  expect(rows.at(65)).toBeUndefined();
  expect(rows.at(0)).toBeUndefined();
});

test("a correction is shown before the kernel has it, and until its row is there anew", async () => {
  const kernel = new Slow();
  const rows = made(kernel);
  rows.correct(1003, "negative");
  expect(rows.at(3)!.correction).toBe("negative");
  rows.refresh(1);
  expect(rows.at(3)!.correction).toBe("negative"); // a key that is pressed now finds its row
  const fresh = rows.fetch(0, 10);
  rows.correct(1003, "positive"); // another, before the first has come back
  kernel.go[0]!();
  await fresh;
  expect(rows.at(3)!.correction).toBe("positive");
  rows.confirm(1003);
  rows.refresh(2);
  const last = rows.fetch(0, 10);
  kernel.go[1]!();
  await last;
  expect(rows.at(3)!.correction).toBeNull(); // what this kernel says
});

test("rows stay while one correction after another is taken in", async () => {
  const kernel = new Slow();
  const rows = made(kernel);
  for (let edit = 1; edit <= 3; edit++) {
    rows.refresh(edit);
    void rows.fetch(0, 10);
    expect(rows.at(3)!.row).toBe(1003); // a key that is pressed now finds its row
  }
  rows.reset({ ...EMPTY, text: "soup" }, 3);
  expect(rows.at(3)).toBeUndefined();
});

test("a correction that the kernel refused is taken back", () => {
  const rows = made(new Slow());
  rows.correct(1003, "glad");
  rows.reject(1003);
  expect(rows.at(3)!.correction).toBeNull();
});

test("a column's head sorts up, down, and not", () => {
  const up = sortedBy(EMPTY, "score");
  expect(up).toEqual({ sort: "score", descending: false });
  const down = sortedBy({ ...EMPTY, ...up }, "score");
  expect(down).toEqual({ sort: "score", descending: true });
  expect(sortedBy({ ...EMPTY, ...down }, "score")).toEqual({ sort: null, descending: false });
  expect(sortedBy({ ...EMPTY, ...down }, "text")).toEqual({ sort: "text", descending: false });
});

test("a sort filters nothing", () => {
  expect(isOpen({ ...EMPTY, sort: "score" })).toBe(true);
  expect(isOpen({ ...EMPTY, score: [0, 1] })).toBe(false);
});

test("labels beyond the ninth have letters", () => {
  const labels = Array.from({ length: 40 }, (_, place) => `label ${place}`);
  const keys = keysOf(labels);
  expect(keys.get("1")).toBe("label 0");
  expect(keys.get("a")).toBe("label 9");
  expect(keys.size).toBe(35);
});
