import { expect, test, vi } from "vitest";

import { Kernel as AnyKernel } from "../shared/kernel";
import { NOT_STORED, OfflineStore } from "../shared/offline";
import type { StoredAnswers } from "../shared/protocol";
import { Traits } from "../shared/traits";

vi.stubGlobal("window", globalThis);

type Request = { kind: string; [name: string]: unknown };
class Kernel extends AnyKernel<Request, Record<string, Record<string, unknown>>> {}

async function block(numbers: Float32Array | Int16Array): Promise<string> {
  const bytes = new Blob([numbers as BlobPart]).stream();
  const packed = bytes.pipeThrough(new CompressionStream("deflate"));
  const letters = new Uint8Array(await new Response(packed).arrayBuffer());
  return btoa(String.fromCharCode(...letters));
}

const WEIGHTS = Float32Array.from({ length: 12 }, (_, cell) => cell / 8); // 4 queries, 3 keys
const WHOLE = { rows: [0, 4], columns: [0, 3] };
const HEAD = { stack: "causal", comparand: "a", layer: 1, head: 2, reduce: "head", mask_sink: false };
const TILE = { kind: "tile", ...HEAD, ...WHOLE };
const PICTURE = { kind: "picture", ...HEAD, ...WHOLE, size: 2 };
const MEAN = { kind: "tile", ...HEAD, reduce: "mean", ...WHOLE };

async function stored(): Promise<Kernel> {
  const pooled = { height: 2, width: 2, exact: false, full: 0.5 };
  const answers = {
    entries: [
      { request: { kind: "contents" }, content: { parts: ["causal"] } },
      { request: TILE, content: { sink_mass: [0.1, 0.2, 0.3, 0.4] }, block: 0 },
      { request: PICTURE, content: pooled, block: 1 },
      { request: MEAN, content: { sink_mass: [0, 0, 0, 0] }, block: 0 },
    ],
    blocks: [await block(WEIGHTS), await block(Int16Array.from([1, 2, 3, 4]))],
  };
  return new Kernel(new OfflineStore(answers as unknown as StoredAnswers));
}

test("a stored answer comes as the kernel gave it", async () => {
  const kernel = await stored();
  expect((await kernel.request({ kind: "contents" })).content.parts).toEqual(["causal"]);
  const { content, buffers } = await kernel.request(TILE);
  expect(content.sink_mass).toEqual([0.1, 0.2, 0.3, 0.4]);
  expect(new Float32Array(buffers[0]!)).toEqual(WEIGHTS);
});

test("a picture of all is found by that name, and cut where it is whole", async () => {
  const all = { ...PICTURE, rows: null, columns: null };
  const content = { ...WHOLE, height: 4, width: 3, exact: true };
  const answers = { entries: [{ request: all, content, block: 0 }], blocks: [await block(WEIGHTS)] };
  const kernel = new Kernel(new OfflineStore(answers as unknown as StoredAnswers));
  kernel.requestAll([{ ...all, size: 9 }, { kind: "contents" }]);
  expect(new Float32Array((await kernel.request({ ...all, size: 9 })).buffers[0]!)).toEqual(WEIGHTS);
  await expect(kernel.request({ kind: "contents" })).rejects.toThrow(NOT_STORED);
  const part = await kernel.request({ ...PICTURE, rows: [1, 3], columns: [2, 3] });
  expect([...new Float32Array(part.buffers[0]!)]).toEqual([5 / 8, 8 / 8]);
});

test("names may come in any order, and a picture at any size", async () => {
  const kernel = await stored();
  const { size: _, ...rest } = PICTURE;
  const turned = Object.fromEntries(Object.entries(rest).reverse());
  const { content, buffers } = await kernel.request({ ...turned, size: 400 } as unknown as Request);
  expect(content.full).toBe(0.5);
  expect([...new Int16Array(buffers[0]!)]).toEqual([1, 2, 3, 4]);
});

test("a tile is cut from a larger one, with the sink masses of its rows", async () => {
  const { content, buffers } = await (await stored()).request({ ...TILE, rows: [1, 3], columns: [1, 3] });
  expect([...new Float32Array(buffers[0]!)]).toEqual([4 / 8, 5 / 8, 7 / 8, 8 / 8]);
  expect(content).toMatchObject({ rows: [1, 3], columns: [1, 3], sink_mass: [0.2, 0.3] });
});

test("a part of a pooled picture is drawn from the exact weights", async () => {
  const requested = { ...PICTURE, rows: [2, 4], columns: [0, 1] };
  const { content, buffers } = await (await stored()).request(requested);
  expect(content).toMatchObject({ height: 2, width: 1, exact: true, full: 0.5 });
  expect([...new Float32Array(buffers[0]!)]).toEqual([6 / 8, 9 / 8]);
});

test("over all heads of a layer, the head that was on screen does not matter", async () => {
  const { buffers } = await (await stored()).request({ ...MEAN, head: 0 });
  expect(new Float32Array(buffers[0]!)).toEqual(WEIGHTS);
});

test.each([
  ["another head", { ...TILE, head: 3 }],
  ["a row beyond", { ...TILE, rows: [0, 5] }],
  ["a kind that is not stored", { kind: "dimensions", layer: 0, head: 0, query: 1, key: 0 }],
])("%s is reported as not stored", async (_, request) => {
  await expect((await stored()).request(request as unknown as Request)).rejects.toThrow(NOT_STORED);
});

test("a trait reports changes, but not the same value again", () => {
  const traits = new Traits({ layer: 1 });
  const changed = vi.fn();
  traits.on("change:layer", changed);
  traits.set("layer", 1);
  expect(changed).not.toHaveBeenCalled();
  traits.set("layer", 2);
  expect(traits.get("layer")).toBe(2);
  expect(changed).toHaveBeenCalledTimes(1);
  traits.off("change:layer", changed);
  traits.set("layer", 3);
  expect(changed).toHaveBeenCalledTimes(1);
});
