// Measures of heads: their titles, and the order and colours of their values.

import type { Head } from "./source";

const TITLES: Record<string, [title: string, about: string]> = {
  entropy: ["entropy", "how widely a query spreads its weight (nats)"],
  mean_distance: ["mean distance", "how far away a query looks (tokens)"],
  sink_mass: ["weight on the sink", "the part of its weight that rests on the sink"],
  previous_token: ["previous token", "weight on the token just before"],
  duplicate_token: ["duplicate token", "weight on earlier occurrences of the same token"],
  normalized_entropy: ["normalized entropy", "its entropy as a share of the largest there could be"],
  induction: ["induction", "on random tokens read twice, weight on what followed the last time"],
  importance: ["importance", "by how much the answer loses in log-probability without the head (nats)"],
  logit_drop: ["logit drop", "by how much the logit of the answer falls without the head"],
  difference: ["difference", "the part of its weight that moved (total variation distance)"],
};

export const titleOf = (measure: string): string => TITLES[measure]?.[0] ?? measure.replaceAll("_", " ");
export const aboutOf = (measure: string): string => TITLES[measure]?.[1] ?? "a measure of your own";

export interface Ranking {
  title: string;
  order: number[][]; // by layer: its heads, largest value first
  text(at: number, head: number): string;
  level(at: number, head: number): number; // 0–255
  top(most: number): (Head & { text: string })[]; // layer as position among the layers
}

export function rank(measure: string, values: Float32Array[]): Ranking {
  const sortable = (value: number) => (Number.isFinite(value) ? value : -Infinity);
  const finite = values.flatMap((row) => [...row]).filter(Number.isFinite);
  const [low, high] = [Math.min(0, ...finite), Math.max(...finite, 1e-6)];
  const text = (at: number, head: number) => {
    const value = values[at]![head]!;
    return Number.isFinite(value) ? value.toPrecision(3) : "none";
  };
  return {
    title: titleOf(measure),
    order: values.map((row) =>
      Array.from(row, (_, head) => head).sort((a, b) => sortable(row[b]!) - sortable(row[a]!)),
    ),
    text,
    level: (at, head) => {
      const value = values[at]![head]!;
      return Number.isFinite(value) ? Math.round((255 * (value - low)) / (high - low)) : 0;
    },
    top: (most) =>
      values
        .flatMap((row, layer) => Array.from(row, (value, head) => ({ layer, head, value })))
        .filter(({ value }) => Number.isFinite(value))
        .sort((a, b) => b.value - a.value)
        .slice(0, most)
        .map(({ layer, head }) => ({ layer, head, text: text(layer, head) })),
  };
}
