// What the browser knows of a recording, and how it asks for more. The questions are
// answered by nbllm/widgets/questions.py.

import { weightsOf } from "../shared/colour";
import type { Kernel, Question } from "../shared/kernel";
import { Units } from "./units";

export interface Contents {
  parts: string[]; // one, or the stacks of an encoder–decoder
  sides: string[]; // "a", or "a", "b" and "difference"
  models: string[]; // of each side
}

/** The tokens along one side of the matrix. */
export interface TokenRow {
  text: string;
  tokens: string[];
  spans: [number, number][];
  special: number[];
  marks: [field: string, start: number, stop: number][];
}

/** Where tokens lie that both texts of a comparison have. */
export type Places = [a: number[], b: number[]];

export interface Outline {
  part: string;
  side: string;
  model: string;
  queries: TokenRow;
  keys: TokenRow; // the same object, but for cross-attention
  causal: boolean;
  layers: number[]; // the model's numbers of the layers recorded
  heads: number;
  sink: number | null;
  signed: boolean; // a difference
  opened: [token: number, layer: number, head: number, share: number] | null;
  closure: number;
  prompt_length: number | null;
  places: Places | null; // of a difference: where its rows lie in both
  key_places: Places | null; // and its columns, where those are other tokens
  measures: string[];
  sampled: number | null; // rows that the thumbnails are made from, where not from all
}

/** Which weights of a sheet are on screen. */
export interface Shown {
  layer: number;
  head: number;
  how: "head" | "mean" | "max";
  mask_sink: boolean;
}

export type Range = [start: number, stop: number];

export interface Picture {
  rows: Range; // the tokens that it covers
  columns: Range;
  height: number;
  width: number;
  exact: boolean; // a pixel is a cell
  sampled: boolean;
  full: number; // weight of full colour: the largest of the head outside of its sink
  sinkShare: number | null;
  weights: Float32Array; // (height, width)
}

export interface Thumbnails {
  height: number;
  width: number;
  shares: Float32Array; // of the largest weight of each head, (heads, height, width)
}

export interface Rows {
  weights: Float32Array[]; // one array a query, over all keys
  sinkMass: number[];
}

export interface Joined {
  queries: Units;
  keys: Units; // the same object where it is one text
}

export interface Head {
  layer: number;
  head: number;
}

export const outlineOf = (part: string, side: string): Question => ({ kind: "outline", part, side });

/** Asks for a window of the matrix, or with null for all of it. */
export function pictureOf(
  part: string,
  side: string,
  shown: Shown,
  window: [rows: Range, columns: Range] | null,
  size: number,
): Question {
  const [rows, columns] = window ?? [null, null];
  return { kind: "picture", part, side, ...shown, rows, columns, size };
}

/** One attention matrix for each layer and head: of a part and a side. */
export class Sheet {
  #units: Record<"tokens" | "words", Joined | undefined> = { tokens: undefined, words: undefined };

  constructor(
    private kernel: Kernel,
    readonly outline: Outline,
  ) {}

  static async open(kernel: Kernel, part: string, side: string): Promise<Sheet> {
    const { message } = await kernel.ask(outlineOf(part, side));
    const outline = message as unknown as Outline;
    return new Sheet(kernel, { ...outline, keys: outline.keys ?? outline.queries });
  }

  /** The tokens along both sides, each by itself or joined to words. */
  units(words: boolean): Joined {
    const { queries, keys } = this.outline;
    const known = this.#units[words ? "words" : "tokens"];
    if (known) return known;
    const make = words ? Units.words : Units.tokens;
    const made = make(queries);
    const both = { queries: made, keys: queries === keys ? made : make(keys) };
    return (this.#units[words ? "words" : "tokens"] = both);
  }

  #ask(kind: string, more: Record<string, unknown>) {
    const { part, side } = this.outline;
    return this.kernel.ask({ kind, part, side, ...more });
  }

  async thumbnails(layer: number): Promise<Thumbnails> {
    const { message, buffers } = await this.#ask("thumbnails", { layer });
    return { ...(message as unknown as Thumbnails), shares: weightsOf(new Uint8Array(buffers[0]!), 1) };
  }

  /** Values of a measure, by layer and head. */
  async measure(name: string): Promise<Float32Array[]> {
    const { layers, heads, measures } = this.outline;
    const { buffers } = await this.#ask("measures", {});
    const from = measures.indexOf(name) * layers.length * heads;
    const all = new Float32Array(buffers[0]!);
    return layers.map((_, at) => all.subarray(from + at * heads, from + (at + 1) * heads));
  }

  /** Values of a measure that was given from Python; another version of it has others. */
  async ownMeasure(name: string, version: number): Promise<Float32Array[]> {
    const { layers, heads } = this.outline;
    const { buffers } = await this.#ask("own_measure", { name, version });
    const all = new Float32Array(buffers[0]!);
    return layers.map((_, at) => all.subarray(at * heads, (at + 1) * heads));
  }

  async picture(
    shown: Shown,
    window: [rows: Range, columns: Range] | null,
    size: number,
  ): Promise<Picture> {
    const { part, side } = this.outline;
    const asked = pictureOf(part, side, shown, window, size);
    const { message, buffers } = await this.kernel.ask(asked);
    const picture = message as unknown as Omit<Picture, "weights">;
    const block = buffers[0]!;
    if (picture.exact) return { ...picture, weights: new Float32Array(block) };
    const codes = this.outline.signed ? new Int8Array(block) : new Uint8Array(block);
    return { ...picture, weights: weightsOf(codes, picture.full) };
  }

  /** Exact weights of some rows and columns, one array a row. */
  async tile(shown: Shown, rows: Range, columns: Range): Promise<Rows> {
    const { message, buffers } = await this.#ask("tile", { ...shown, rows, columns });
    const all = new Float32Array(buffers[0]!);
    const width = columns[1] - columns[0];
    const count = rows[1] - rows[0];
    const from = rows[0] - (message.rows as Range)[0]; // a stored answer may hold more
    return {
      weights: Array.from({ length: count }, (_, row) =>
        all.subarray(row * width, (row + 1) * width),
      ),
      sinkMass: (message.sinkMass as number[]).slice(from, from + count),
    };
  }

  /** Query, key and their scaled product, dimension by dimension. */
  async dimensions({ layer, head }: Head, query: number, key: number) {
    const { message, buffers } = await this.#ask("dimensions", { layer, head, pair: [query, key] });
    const all = new Float32Array(buffers[0]!);
    const size = all.length / 3;
    const [q, k, product] = [0, 1, 2].map((at) => all.subarray(at * size, (at + 1) * size));
    return { q: q!, k: k!, product: product!, plain: message.plain as boolean };
  }
}
