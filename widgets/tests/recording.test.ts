import { expect, test } from "vitest";

import { Sheet, type Outline } from "../attention/recording";
import type { Kernel } from "../shared/kernel";

const SHOWN = { layer: 0, head: 0, how: "head" as const, mask_sink: false };

/** The weights of a picture whose answer holds this block. */
async function weightsOf(block: ArrayBufferLike, message: { exact: boolean; full: number }, signed: boolean) {
  const row = { tokens: ["a", "b"] };
  const outline = { part: "causal", side: "a", signed, queries: row, keys: row } as unknown as Outline;
  const kernel = { ask: async () => ({ message, buffers: [block] }) } as unknown as Kernel;
  return [...(await new Sheet(kernel, outline).picture(SHOWN, null, 512)).weights];
}

test("an exact picture comes as it is", async () => {
  const block = Float32Array.from([0.25, 0.5]).buffer;
  expect(await weightsOf(block, { exact: true, full: 0.1 }, false)).toEqual([0.25, 0.5]);
});

test("a pooled picture comes as colour levels, by the square root", async () => {
  const weights = await weightsOf(Uint8Array.from([0, 51, 255]).buffer, { exact: false, full: 0.5 }, false);
  [0, 0.02, 0.5].forEach((weight, at) => expect(weights[at]).toBeCloseTo(weight, 6));
});

test("that of a difference has a sign", async () => {
  const weights = await weightsOf(Int8Array.from([-127, 0, 127]).buffer, { exact: false, full: 0.5 }, true);
  [-0.5, 0, 0.5].forEach((weight, at) => expect(weights[at]).toBeCloseTo(weight, 6));
});
