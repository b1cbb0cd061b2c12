import { expect, test } from "vitest";

import { rank } from "../attention/measures";
import type { Outline } from "../attention/source";
import { fit, mapState, type State, windowOf } from "../attention/state";
import type { TokenFields } from "../shared/protocol";

const row = (count: number): TokenFields => ({
  text: "",
  tokens: Array<string>(count).fill("a"),
  spans: Array<[number, number]>(count).fill([0, 0]),
  special: [],
  marks: [],
});
const outline = (change: Partial<Outline>): Outline => ({
  stack: "cross", comparand: "a", model: "m", queries: row(4), keys: row(6), causal: false,
  layers: [0, 1], heads: 2, sink: null, signed: false, opened: null, closure: 0,
  prompt_length: null, places: null, key_places: null, measures: [], sampled: null,
  ...change,
});
const state = (change: Partial<State>): State => ({
  layer: 0, head: 0, reduce: "head", mask_sink: false, token: null, key: null, window: null,
  words: false, measure: null, measured: {}, stack: "cross", comparand: "a", scale: "sqrt",
  ...change,
});

test("a state is limited to a smaller source", () => {
  const requested = state({ layer: 11, head: 7, token: 5, key: 5, window: [0, 9, 0, 2] });
  expect(fit(requested, outline({}))).toMatchObject({
    layer: 1, head: 1, token: null, key: 5, window: null,
  });
  expect(fit(state({ layer: 4 }), outline({ layers: [0, 3, 9] })).layer).toBe(3);
});

test("without a window all queries and keys are shown", () => {
  expect(windowOf(state({}))).toBeNull();
  expect(windowOf(state({ window: [1, 2, 3, 4] }))).toEqual([[1, 2], [3, 4]]);
});

test("a token is carried to where the other text has it, or its nearest neighbour", () => {
  // a: The soup was warm.    b: The soup was not warm.
  const difference = outline({ comparand: "difference", signed: true, places: [[0, 1, 2, 3], [0, 1, 2, 4]] });
  const [a, b] = [outline({ comparand: "a" }), outline({ comparand: "b" })];
  const carry = (token: number, from: Outline, to: Outline) =>
    mapState(state({ token }), from, to, difference).token;
  expect(carry(3, a, b)).toBe(4);
  expect(carry(4, b, a)).toBe(3);
  expect(carry(3, b, a)).toBe(2);
  expect(carry(3, difference, b)).toBe(4);
  expect(carry(4, b, difference)).toBe(3);
});

test("of an encoder-decoder, keys are carried as tokens of the encoder", () => {
  const difference = outline({
    comparand: "difference", signed: true, places: [[0, 1], [0, 2]], key_places: [[0, 1, 4, 5], [0, 1, 2, 3]],
  });
  const [a, b] = [outline({ comparand: "a" }), outline({ comparand: "b" })];
  const seen = state({ token: 1, key: 4, window: [0, 2, 1, 6] });
  expect(mapState(seen, a, b, difference)).toMatchObject({ token: 2, key: 2, window: [0, 3, 1, 4] });
  const there = state({ token: 1, key: 3, window: [0, 2, 1, 4] });
  expect(mapState(there, difference, a, difference)).toMatchObject({ token: 1, key: 5, window: [0, 2, 1, 6] });
});

test("heads are ranked within their layer, and those without a value come last", () => {
  const ranking = rank("entropy", [new Float32Array([0.1, NaN, 0.9]), new Float32Array([2, 1, 0])]);
  expect(ranking.order).toEqual([[2, 0, 1], [0, 1, 2]]);
  expect(ranking.text(0, 1)).toBe("none");
  expect([ranking.level(1, 0), ranking.level(0, 1)]).toEqual([255, 0]);
  expect(ranking.top(2).map(({ layer, head }) => [layer, head])).toEqual([[1, 0], [1, 1]]);
  expect(rank("sink_mass", [new Float32Array([NaN])]).top(3)).toEqual([]);
});
