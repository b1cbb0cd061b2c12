import { expect, test } from "vitest";

import { AttentionSource, type Kernel, type Outline } from "../attention/source";

const SELECTION = { layer: 0, head: 0, reduce: "head" as const, mask_sink: false };

/** The weights of a picture whose answer holds this block. */
async function weightsOf(block: ArrayBufferLike, content: { exact: boolean; full: number }, signed: boolean) {
  const row = { tokens: ["a", "b"] };
  const outline = { stack: "causal", comparand: "a", signed, queries: row, keys: row } as unknown as Outline;
  const kernel = { request: async () => ({ content, buffers: [block] }) } as unknown as Kernel;
  return [...(await new AttentionSource(kernel, outline).picture(SELECTION, null, 512)).weights];
}

test("an exact picture comes as it is", async () => {
  const block = Float32Array.from([0.25, 0.5]).buffer;
  expect(await weightsOf(block, { exact: true, full: 0.1 }, false)).toEqual([0.25, 0.5]);
});

test("a pooled picture comes as codes, even in the logarithm over four decades", async () => {
  const block = Uint8Array.from([0, 1, 128, 255]).buffer;
  const weights = await weightsOf(block, { exact: false, full: 0.5 }, false);
  [0, 0.5e-4, 0.5e-2, 0.5].forEach((weight, at) => expect(weights[at]! / (weight || 1)).toBeCloseTo(weight ? 1 : 0, 5));
});

test("the picture of a difference has a sign", async () => {
  const block = Int8Array.from([-127, 0, 64, 127]).buffer;
  const weights = await weightsOf(block, { exact: false, full: 0.5 }, true);
  [-0.5, 0, 0.5e-2, 0.5].forEach((weight, at) => expect(weights[at]).toBeCloseTo(weight, 6));
});
