// The browser's access to a recording: requests that nbllm/widgets/attention/handler.py answers.

import { weightsOf } from "../shared/colour";
import type { Kernel as AnyKernel } from "../shared/kernel";
import type {
  AttentionAnswers, AttentionRequest, Comparand, OutlineRequest, PictureRequest, Range, Reduce, ThumbnailSize,
  TokenFields,
} from "../shared/protocol";
import type * as protocol from "../shared/protocol";
import { Units } from "./units";

export type { Contents } from "../shared/protocol";

export type Kernel = AnyKernel<AttentionRequest, AttentionAnswers>;

/** A source without its weights; the keys may be the same object as the queries. */
export interface Outline extends protocol.Outline {
  keys: TokenFields;
}

/** The weights of a source that are on screen. */
export interface Selection {
  layer: number;
  head: number;
  reduce: Reduce;
  mask_sink: boolean;
}

export interface Picture extends protocol.Picture {
  weights: Float32Array; // (height, width)
}

export interface Thumbnails extends ThumbnailSize {
  shares: Float32Array; // of the largest weight of each head, (heads, height, width)
}

export interface Rows {
  weights: Float32Array[]; // one array per row
  sinkMass: number[];
}

/** The units along both sides of a matrix. */
export interface Axes {
  queries: Units;
  keys: Units; // the same object as the queries for self-attention
}

export interface Head {
  layer: number;
  head: number;
}

export const outlineOf = (stack: string, comparand: Comparand): OutlineRequest => ({
  kind: "outline",
  stack,
  comparand,
});

/** Requests a window of the matrix; null for all of it. */
export function pictureOf(
  stack: string,
  comparand: Comparand,
  selection: Selection,
  window: [rows: Range, columns: Range] | null,
  size: number,
): PictureRequest {
  const [rows, columns] = window ?? [null, null];
  return { kind: "picture", stack, comparand, ...selection, rows, columns, size };
}

/** The attention matrices of all heads of one stack and comparand. */
export class AttentionSource {
  #units: Record<"tokens" | "words", Axes | undefined> = { tokens: undefined, words: undefined };

  constructor(
    private kernel: Kernel,
    readonly outline: Outline,
  ) {}

  static async open(kernel: Kernel, stack: string, comparand: Comparand): Promise<AttentionSource> {
    const { content: outline } = await kernel.request(outlineOf(stack, comparand));
    return new AttentionSource(kernel, { ...outline, keys: outline.keys ?? outline.queries });
  }

  /** Returns the units along both sides: tokens or words. */
  units(words: boolean): Axes {
    const { queries, keys } = this.outline;
    const known = this.#units[words ? "words" : "tokens"];
    if (known) return known;
    const make = words ? Units.words : Units.tokens;
    const made = make(queries);
    const both = { queries: made, keys: queries === keys ? made : make(keys) };
    return (this.#units[words ? "words" : "tokens"] = both);
  }

  get #source() {
    const { stack, comparand } = this.outline;
    return { stack, comparand };
  }

  async thumbnails(layer: number): Promise<Thumbnails> {
    const { content, buffers } = await this.kernel.request({ kind: "thumbnails", ...this.#source, layer });
    return { ...content, shares: weightsOf(new Uint8Array(buffers[0]!), 1) };
  }

  /** Returns the values of a measure, by layer and head. */
  async measure(name: string): Promise<Float32Array[]> {
    const { buffers } = await this.kernel.request({ kind: "measures", ...this.#source });
    return this.#byLayer(buffers, this.outline.measures.indexOf(name));
  }

  /** Returns the values of a measure set from Python; the version changes with them. */
  async ownMeasure(name: string, version: number): Promise<Float32Array[]> {
    const { buffers } = await this.kernel.request({ kind: "own_measure", ...this.#source, name, version });
    return this.#byLayer(buffers, 0);
  }

  #byLayer([buffer]: ArrayBuffer[], measure: number): Float32Array[] {
    const { layers, heads } = this.outline;
    const all = new Float32Array(buffer!);
    const row = (at: number) => (measure * layers.length + at) * heads;
    return layers.map((_, at) => all.subarray(row(at), row(at + 1)));
  }

  async picture(
    selection: Selection,
    window: [rows: Range, columns: Range] | null,
    size: number,
  ): Promise<Picture> {
    const { stack, comparand, signed } = this.outline;
    const request = pictureOf(stack, comparand, selection, window, size);
    const { content, buffers } = await this.kernel.request(request);
    const block = buffers[0]!;
    if (content.exact) return { ...content, weights: new Float32Array(block) };
    const codes = signed ? new Int8Array(block) : new Uint8Array(block);
    return { ...content, weights: weightsOf(codes, content.full) };
  }

  /** Returns the exact weights of some rows and columns, one array per row. */
  async tile(selection: Selection, rows: Range, columns: Range): Promise<Rows> {
    const { content, buffers } = await this.kernel.request({
      kind: "tile", ...this.#source, ...selection, rows, columns,
    });
    const all = new Float32Array(buffers[0]!);
    const width = columns[1] - columns[0];
    const count = rows[1] - rows[0];
    const from = rows[0] - content.rows[0]; // a saved page may answer with more rows
    return {
      weights: Array.from({ length: count }, (_, row) =>
        all.subarray(row * width, (row + 1) * width),
      ),
      sinkMass: content.sink_mass.slice(from, from + count),
    };
  }

  /** Returns query, key and their scaled product, by dimension. */
  async dimensions({ layer, head }: Head, query: number, key: number) {
    const { content, buffers } = await this.kernel.request({
      kind: "dimensions", ...this.#source, layer, head, query, key,
    });
    const all = new Float32Array(buffers[0]!);
    const size = all.length / 3;
    const [q, k, product] = [0, 1, 2].map((at) => all.subarray(at * size, (at + 1) * size));
    return { q: q!, k: k!, product: product!, plain: content.plain };
  }
}
