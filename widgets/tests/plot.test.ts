import { expect, test } from "vitest";

import { byWord, covered, fitting, isByToken, shrunk } from "../attention/plot";
import type { Picture, TokenRow } from "../attention/recording";
import { Units } from "../attention/units";

const tokens = ["The", " sou", "p", " is", " luke", "warm"];
const ends = tokens.map((_, at) => tokens.slice(0, at + 1).join("").length);
const row: TokenRow = {
  text: tokens.join(""),
  tokens,
  spans: ends.map((end, at) => [ends[at - 1] ?? 0, end]),
  special: [],
  marks: [],
};
const words = Units.words(row); // The, soup, is, lukewarm
const both = { queries: words, keys: words };

function picture(change: Partial<Picture>): Picture {
  const made = { rows: [0, 6], columns: [0, 6], height: 6, width: 6, exact: true, sampled: false, full: 1, sinkShare: null };
  return { ...made, weights: Float32Array.from({ length: 36 }, (_, cell) => cell / 64), ...change } as Picture;
}

test("all pieces of a word have the largest weight of the word, of either sign", () => {
  const whole = picture({});
  whole.weights[1 * 6 + 2] = -0.75; // “sou” to “p”
  const { weights } = byWord(whole, both);
  const at = (query: number, key: number) => weights[query * 6 + key];
  for (const query of [1, 2]) for (const key of [1, 2]) expect(at(query, key)).toBe(-0.75);
  for (const query of [4, 5]) expect(at(query, 0)).toBe(30 / 64); // of token 5
  expect(at(0, 3)).toBe(3 / 64); // words of one piece stay as they are
});

test("of a word that the window cuts, the pieces in it are joined", () => {
  const part = picture({ rows: [2, 5], columns: [2, 4], height: 3, width: 2, weights: Float32Array.from([1, 2, 3, 4, 5, 6]) });
  expect([...byWord(part, both).weights]).toEqual([1, 2, 3, 4, 5, 6]);
  expect(covered(words, [2, 5])).toEqual([1, 6]);
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
