// What the browser knows of a recording, and how it asks for more.

import type { Kernel } from "../shared/kernel";

export interface Outline {
  model: string;
  text: string;
  tokens: string[];
  spans: [number, number][];
  special: boolean[];
  marks: [field: string, start: number, stop: number][];
  causal: boolean;
  layers: number;
  heads: number;
  sink: number | null;
  opened: [token: number, layer: number, head: number, share: number];
  closure: number;
}

export interface Picture {
  side: number;
  full: number; // weight of full colour
  sinkShare: number | null;
  weights: Uint16Array; // (side, side), 65535 is 1
}

export interface Head {
  layer: number;
  head: number;
}

export class Recording {
  constructor(
    private kernel: Kernel,
    readonly outline: Outline,
  ) {}

  static async open(kernel: Kernel): Promise<Recording> {
    const { message } = await kernel.ask({ kind: "outline" });
    return new Recording(kernel, message as unknown as Outline);
  }

  async thumbnails(layer: number): Promise<{ side: number; levels: Uint8Array }> {
    const { message, buffers } = await this.kernel.ask({ kind: "thumbnails", layer });
    return { side: message.side as number, levels: new Uint8Array(buffers[0]!) };
  }

  async picture({ layer, head }: Head, size: number): Promise<Picture> {
    const { message, buffers } = await this.kernel.ask({ kind: "picture", layer, head, size });
    return { ...(message as unknown as Picture), weights: new Uint16Array(buffers[0]!) };
  }

  /** Exact weights of queries start to stop, one array a query. */
  async rows({ layer, head }: Head, start: number, stop: number): Promise<Float32Array[]> {
    const count = this.outline.tokens.length;
    const { buffers } = await this.kernel.ask({
      kind: "tile",
      layer,
      head,
      rows: [start, stop],
      columns: [0, count],
    });
    const all = new Float32Array(buffers[0]!);
    return Array.from({ length: stop - start }, (_, row) =>
      all.subarray(row * count, (row + 1) * count),
    );
  }
}
