import { expect, test } from "vitest";

import { joinRows } from "../attention/lines";
import { byWord, covered, fitting, isByToken, joinedWeight, largestOf, shrunk, wholeWords } from "../attention/plot";
import type { Picture } from "../attention/source";
import { Units } from "../attention/units";
import type { Range, TokenFields } from "../shared/protocol";

const tokens = ["The", " sou", "p", " is", " luke", "warm"];
const ends = tokens.map((_, at) => tokens.slice(0, at + 1).join("").length);
const row: TokenFields = {
  text: tokens.join(""),
  tokens,
  spans: ends.map((end, at) => [ends[at - 1] ?? 0, end]),
  special: [],
  marks: [],
};
const words = Units.words(row); // The, soup, is, lukewarm
const both = { queries: words, keys: words };

function picture(change: Partial<Picture>): Picture {
  const made = { rows: [0, 6], columns: [0, 6], height: 6, width: 6, exact: true, sampled: false, full: 1, sink_share: null };
  return { ...made, weights: Float32Array.from({ length: 36 }, (_, cell) => cell / 64), ...change } as Picture;
}

test("a cell of two words has one weight: in the matrix, in the readout and in the lines", () => {
  const whole = picture({});
  whole.weights.forEach((_, cell) => (whole.weights[cell] = Math.sin(cell))); // of either sign
  const line = (token: number) => whole.weights.slice(6 * token, 6 * token + 6);
  const rows = { weights: [0, 1, 2, 3, 4, 5].map(line), sinkMass: [] };
  const lines = joinRows(rows, words, words, [0, words.length]);
  const { weights } = byWord(whole, both);
  for (let query = 0; query < 6; query++) {
    for (let key = 0; key < 6; key++) {
      const [looks, looked] = [words.of[query]!, words.of[key]!];
      const [tops, lefts] = [words.tokens(looks), words.tokens(looked)];
      const tile = rows.weights.slice(...tops).map((row) => row.subarray(...lefts));
      const sum = tile.flatMap((row) => [...row]).reduce((all, weight) => all + weight, 0);
      expect(weights[query * 6 + key]).toBeCloseTo(sum / (tops[1] - tops[0]), 5);
      expect(lines[looks]![looked]).toBeCloseTo(sum / (tops[1] - tops[0]), 5);
      expect(joinedWeight(tile)).toBeCloseTo(sum / (tops[1] - tops[0]), 5);
    }
  }
});

test("a window that cuts words is extended to whole words, so that a zoom changes no weight", () => {
  const window: [Range, Range] = [[2, 5], [2, 4]];
  expect(wholeWords(window, both)).toEqual([[1, 6], [1, 4]]);
  expect(wholeWords(null, both)).toBeNull();
  const whole = byWord(picture({}), both).weights;
  const cells = [1, 2, 3, 4, 5].flatMap((row) => [1, 2, 3].map((column) => (6 * row + column) / 64));
  const part = picture({ rows: [1, 6], columns: [1, 4], height: 5, width: 3, weights: Float32Array.from(cells) });
  const joined = byWord(part, both).weights;
  for (let row = 0; row < 5; row++) {
    for (let column = 0; column < 3; column++) {
      expect(joined[3 * row + column]).toBeCloseTo(whole[6 * (row + 1) + column + 1]!, 6);
    }
  }
  expect(covered(words, [2, 5])).toEqual([1, 6]);
});

test("the largest weight is that outside of the sink, with all pieces of its word", () => {
  const whole = picture({});
  expect(largestOf(whole, words, null)).toBe(35 / 64);
  expect(largestOf(whole, words, 5)).toBe(33 / 64); // “luke” goes with “warm”
  whole.weights[7] = -0.9;
  expect(largestOf(whole, words, 5)).toBeCloseTo(0.9, 6);
});

test("a pooled picture has no cells to join", () => {
  expect(isByToken(picture({}))).toBe(true);
  expect(isByToken(picture({ height: 3 }))).toBe(false);
});

test("a picture has no more pixels than the screen, and keeps its hottest", () => {
  const place = { left: 0, top: 0, width: 3, height: 3, labelled: false };
  const whole = picture({});
  expect(fitting(whole, [[0, 6], [0, 6]], place, 1)).toEqual([3, 3]);
  expect(fitting(whole, [[0, 6], [0, 6]], place, 2)).toEqual([6, 6]);
  expect(fitting(whole, [[0, 3], [0, 6]], place, 1)).toEqual([6, 3]); // zoomed: twice as tall
  expect([...shrunk(whole, [3, 3]).weights].slice(0, 3)).toEqual([7 / 64, 9 / 64, 11 / 64]);
});
