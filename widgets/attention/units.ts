// Units of display: single tokens, or the tokens of a word joined. The weights of a word are summed
// over its key tokens and averaged over its query tokens, since each query's row sums to one.

import type { Range, TokenFields } from "../shared/protocol";
import { isMarked, tokenLabel } from "./layout";

export class Units {
  readonly of: Int32Array; // the unit of each token

  private constructor(
    readonly row: TokenFields,
    private starts: number[],
  ) {
    this.of = new Int32Array(row.tokens.length);
    for (let unit = 0; unit < starts.length; unit++) {
      this.of.fill(unit, starts[unit], this.tokens(unit)[1]);
    }
  }

  static tokens(row: TokenFields): Units {
    return new Units(row, Array.from(row.tokens, (_, token) => token));
  }

  static words(row: TokenFields): Units {
    return new Units(row, wordStarts(row));
  }

  get length(): number {
    return this.starts.length;
  }

  /** Returns the tokens of a unit: [start, stop). */
  tokens(unit: number): Range {
    return [this.starts[unit]!, this.starts[unit + 1] ?? this.row.tokens.length];
  }

  unit(token: number | null): number | null {
    return token === null ? null : this.of[token]!;
  }

  text(unit: number): string {
    const [start, stop] = this.tokens(unit);
    if (stop - start === 1) return this.row.tokens[start]!;
    return this.row.text.slice(this.row.spans[start]![0], this.row.spans[stop - 1]![1]);
  }

  label(unit: number, most?: number): string {
    return tokenLabel(this.text(unit), most);
  }

  marked(unit: number): boolean {
    return isMarked(this.tokens(unit)[0], this.row);
  }

  /** Sums weights over key tokens to weights over units. */
  sum(weights: Float32Array): Float32Array {
    if (this.length === weights.length) return weights;
    const sums = new Float32Array(this.length);
    weights.forEach((weight, token) => (sums[this.of[token]!]! += weight));
    return sums;
  }
}

/** Averages rows of weights. */
export function meanRow(rows: Float32Array[]): Float32Array {
  if (rows.length === 1) return rows[0]!;
  const mean = new Float32Array(rows[0]!.length);
  for (const row of rows) row.forEach((weight, key) => (mean[key]! += weight / rows.length));
  return mean;
}

/** Returns the first token of each word, by Unicode's rules and the browser's dictionaries. */
export function wordStarts({ text, tokens, spans, special, marks }: TokenFields): number[] {
  const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });
  const segments = [...segmenter.segment(text)].map(({ index }) => index);
  const alone = new Set(special);
  const edges = new Set(marks.flatMap(([, start, stop]) => [start, stop]));
  const starts: number[] = [];
  let [at, before] = [0, -1];
  tokens.forEach((token, place) => {
    const [start, stop] = spans[place]!;
    if (alone.has(place) || stop === start) {
      starts.push(place);
      before = -1;
      return;
    }
    const blank = token.length - token.trimStart().length;
    const first = Math.min(start + blank, stop - 1); // a token often brings the space before it
    while (at + 1 < segments.length && segments[at + 1]! <= first) at++;
    if (segments[at] !== before || edges.has(place)) starts.push(place);
    before = segments[at]!;
  });
  return starts;
}
