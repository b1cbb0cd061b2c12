// Layout and formatting: pure functions of sizes, weights and tokens.

import type { Range, TokenFields } from "../shared/protocol";

/** Returns the side of a cell of the layer × head grid, in pixels. */
export function cellSide(layers: number, heads: number, width: number): number {
  const [smallest, largest, height] = [11, 30, 236];
  const fitting = Math.min(width / layers, height / heads);
  return Math.floor(Math.max(smallest, Math.min(largest, fitting)));
}

/** Returns `size` positions around `centre`, within 0 to `count`. */
export function windowAround(centre: number, size: number, count: number): Range {
  const start = Math.max(0, Math.min(centre - Math.floor(size / 2), count - size));
  return [start, Math.min(start + size, count)];
}

/** Returns the keys with the largest weights in magnitude, in reading order. */
export function strongest(weights: ArrayLike<number>, most: number): number[] {
  const size = (key: number) => Math.abs(weights[key]!);
  return Array.from({ length: weights.length }, (_, key) => key)
    .filter((key) => weights[key] !== 0)
    .sort((a, b) => size(b) - size(a))
    .slice(0, most)
    .sort((a, b) => a - b);
}

/** Returns the weight of full colour in one row: the largest, without the sink. */
export function fullOfRow(weights: ArrayLike<number>, sink: number | null): number {
  let full = 0;
  for (let key = 0; key < weights.length; key++) {
    if (key !== sink) full = Math.max(full, Math.abs(weights[key]!));
  }
  return full || 1;
}

export interface Share {
  name: "yours" | "rest" | "sink";
  weight: number;
}

/** Splits one query's weight between the sink, the user's text and all other tokens. */
export function shares(weights: ArrayLike<number>, row: TokenFields, sinkKey: number | null): Share[] {
  let [sink, yours, rest] = [0, 0, 0];
  for (let key = 0; key < weights.length; key++) {
    if (isMarked(key, row)) yours += weights[key]!;
    else if (key === sinkKey) sink += weights[key]!;
    else rest += weights[key]!;
  }
  const parts: Share[] = [
    { name: "yours", weight: yours },
    { name: "rest", weight: rest },
    { name: "sink", weight: sink },
  ];
  return parts.filter(
    ({ name }) => name === "rest" || (name === "yours" ? row.marks.length > 0 : sinkKey !== null),
  );
}

export const isMarked = (token: number, { marks }: TokenFields): boolean =>
  marks.some(([, start, stop]) => token >= start && token < stop);

/** Returns whether a token continues a character that the previous token began. */
export const isContinuation = (token: number, { spans }: TokenFields): boolean =>
  token > 0 &&
  spans[token]![1] > spans[token]![0] &&
  spans[token]![0] < spans[token - 1]![1];

/** Returns a token as one short line, with symbols for invisible characters. */
export function tokenLabel(token: string, most = 18): string {
  const shown = token.replace(/\r?\n/g, "⏎").replace(/\t/g, "⇥").trim() || "␣";
  const characters = [...shown];
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : shown;
}

export const label = (token: number, { tokens }: TokenFields, most?: number): string =>
  tokenLabel(tokens[token]!, most);

/** Returns the tokens [start, stop) that pixel `index` of `side` covers, of the tokens [first, last). */
export function block(index: number, side: number, [first, last]: Range): Range {
  const count = last - first;
  return [
    first + Math.floor((index * count) / side),
    first + Math.floor(((index + 1) * count) / side),
  ];
}

/** Formats a weight; a small one in scientific notation, never as zero. */
export function weightText(weight: number, decimals = 4): string {
  if (weight === 0) return "0";
  const sign = weight < 0 ? "−" : "";
  const size = Math.abs(weight);
  return `${sign}${size < 0.001 ? size.toExponential(decimals - 2).replace("-", "−") : size.toFixed(decimals)}`;
}

export function percent(weight: number): string {
  if (weight < 0) return `−${percent(-weight)}`;
  return weight > 0 && weight < 0.005 ? "< 1 %" : `${Math.round(100 * weight)} %`;
}

/** Formats a relative error: 0.2 %, 3e-7. */
export const formatError = (error: number): string =>
  error >= 1e-4 ? `${(100 * error).toPrecision(1)} %` : Math.max(error, 1e-8).toExponential(0);
