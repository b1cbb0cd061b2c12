import { expect, test } from "vitest";

import { meanRow, Units, wordStarts } from "../attention/units";
import type { TokenFields } from "../shared/protocol";

/** A row of tokens that follow each other in the text. */
function row(tokens: string[], change: Partial<TokenFields> = {}): TokenFields {
  let at = 0;
  const spans = tokens.map((token): [number, number] => [at, (at += token.length)]);
  return { text: tokens.join(""), tokens, spans, special: [], marks: [], ...change };
}

const words = (of: TokenFields) => {
  const units = Units.words(of);
  return Array.from({ length: units.length }, (_, unit) => units.text(unit));
};

test("pieces of a word are joined, and punctuation stands alone", () => {
  expect(words(row(["The", " sou", "p", " wasn", "'t", " luke", "warm", "."]))).toEqual([
    "The", " soup", " wasn't", " lukewarm", ".",
  ]);
});

test("bytes of one character are one word, and an emoji keeps its skin", () => {
  const spans: [number, number][] = [[0, 2], [0, 2], [2, 4], [2, 4], [4, 7]];
  const emoji = row(["👍", "👍", "🏽", "🏽", " ok"], { text: "👍🏽 ok", spans });
  expect(words(emoji)).toEqual(["👍🏽", " ok"]);
});

test("languages without spaces are cut by the dictionary, others by their script", () => {
  expect(words(row(["我", "们", "喜", "欢", "电影"]))).toEqual(["我们", "喜欢", "电影"]);
  expect(words(row([" ش", "كر", "ا", " جز", "يلا"]))).toEqual([" شكرا", " جزيلا"]);
});

test("special tokens and the edges of the user's text are never joined", () => {
  const special = row(["[CLS]", "ab", "cd", "[SEP]"], {
    text: "abcd",
    spans: [[0, 0], [0, 2], [2, 4], [4, 4]],
    special: [0, 3],
  });
  expect(wordStarts(special)).toEqual([0, 1, 3]);
  expect(wordStarts(row(["ab", "cd"], { marks: [["review", 1, 2]] }))).toEqual([0, 1]);
});

test("every token belongs to one unit, in order", () => {
  const of = row(["a", " b", "c", "  ", "\n", "d"]);
  const units = Units.words(of);
  const covered = Array.from({ length: units.length }, (_, unit) => units.tokens(unit));
  expect(covered[0]![0]).toBe(0);
  expect(covered.at(-1)![1]).toBe(of.tokens.length);
  covered.slice(1).forEach(([start], at) => expect(start).toBe(covered[at]![1]));
  covered.forEach(([start, stop], unit) => {
    for (let token = start; token < stop; token++) expect(units.unit(token)).toBe(unit);
  });
});

test("weights are summed over keys and averaged over queries", () => {
  const units = Units.words(row(["so", "up", " is"]));
  expect([...units.sum(new Float32Array([0.25, 0.5, 0.25]))]).toEqual([0.75, 0.25]);
  const rows = [new Float32Array([1, 0]), new Float32Array([0.5, 0.5])];
  expect([...meanRow(rows)]).toEqual([0.75, 0.25]);
});
