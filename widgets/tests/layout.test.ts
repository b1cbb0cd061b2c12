import { expect, test } from "vitest";

import * as layout from "../attention/layout";
import type { TokenFields } from "../shared/protocol";

const row = (change: Partial<TokenFields> = {}): TokenFields => ({
  text: "Say 👍 ok",
  tokens: ["Say", " 👍", "👍", " ok"],
  spans: [[0, 3], [3, 6], [4, 6], [6, 9]],
  special: [],
  marks: [["review", 1, 3]],
  ...change,
});

test("a window stays within the text", () => {
  expect(layout.windowAround(0, 5, 100)).toEqual([0, 5]);
  expect(layout.windowAround(50, 5, 100)).toEqual([48, 53]);
  expect(layout.windowAround(99, 5, 100)).toEqual([95, 100]);
  expect(layout.windowAround(1, 5, 3)).toEqual([0, 3]);
});

test("the strongest keys come in reading order, without masked ones", () => {
  expect(layout.strongest([0.1, 0.5, 0, 0.3, 0.1], 3)).toEqual([0, 1, 3]);
  expect(layout.strongest([0, 1], 5)).toEqual([1]);
  expect(layout.strongest([0.1, -0.4, 0.2], 2)).toEqual([1, 2]);
});

test("full colour of a row leaves the sink aside", () => {
  expect(layout.fullOfRow([0.9, 0.02, 0.08], 0)).toBe(0.08);
  expect(layout.fullOfRow([0.9, 0.02, 0.08], null)).toBe(0.9);
  expect(layout.fullOfRow([1], 0)).toBe(1);
  expect(layout.fullOfRow([0.9, -0.3, 0.1], 0)).toBe(0.3);
});

test("shares add up, and are named only where they exist", () => {
  expect(layout.shares([0.5, 0.125, 0.125, 0.25], row(), 0)).toEqual([
    { name: "yours", weight: 0.25 },
    { name: "rest", weight: 0.25 },
    { name: "sink", weight: 0.5 },
  ]);
  expect(layout.shares([0.5, 0.5, 0, 0], row({ marks: [] }), null)).toEqual([{ name: "rest", weight: 1 }]);
});

test("further bytes of a character are distinguished from tokens without a span", () => {
  expect([0, 1, 2, 3].map((token) => layout.isContinuation(token, row()))).toEqual([
    false, false, true, false,
  ]);
  const bert = row({ spans: [[0, 0], [0, 3], [4, 6], [0, 0]] });
  expect(layout.isContinuation(3, bert)).toBe(false);
});

test("labels show what is invisible and keep whole characters", () => {
  const of = (token: string, most?: number) => layout.label(0, row({ tokens: [token] }), most);
  expect(of("\n\n")).toBe("⏎⏎");
  expect(of("  ")).toBe("␣");
  expect(of(" word")).toBe("word");
  expect(of("👍👍👍👍", 3)).toBe("👍👍…");
});

test("blocks of a pooled axis cover every token once", () => {
  for (const [side, count] of [[7, 7], [16, 100], [420, 513]] as const) {
    const blocks = Array.from({ length: side }, (_, at) => layout.block(at, side, [5, 5 + count]));
    expect(blocks[0]![0]).toBe(5);
    expect(blocks.at(-1)![1]).toBe(5 + count);
    blocks.slice(1).forEach(([start], at) => expect(start).toBe(blocks[at]![1]));
  }
});

test("cells fit the room within limits", () => {
  expect(layout.cellSide(30, 9, 1000)).toBe(26);
  expect(layout.cellSide(2, 4, 1000)).toBe(30);
  expect(layout.cellSide(32, 32, 300)).toBe(11);
});

test("numbers do not pretend", () => {
  expect(layout.weightText(0)).toBe("0");
  expect(layout.weightText(0.00004)).toBe("4.00e−5");
  expect(layout.weightText(0.000123, 3)).toBe("1.2e−4");
  expect(layout.weightText(0.12345)).toBe("0.1235");
  expect(layout.weightText(-0.5)).toBe("−0.5000");
  expect([0, 0.001, 0.334, -0.2].map(layout.percent)).toEqual(["0 %", "< 1 %", "33 %", "−20 %"]);
  expect([0.0019, 4.4e-7].map(layout.formatError)).toEqual(["0.2 %", "4e-7"]);
});
