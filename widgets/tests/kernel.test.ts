import { beforeEach, expect, test, vi } from "vitest";

import { type Channel, Kernel, KernelGone } from "../shared/kernel";

vi.stubGlobal("window", globalThis);

/** Stands for the Python half: keeps the questions, answers when told. */
class Fake implements Channel {
  sent: Record<string, unknown>[] = [];
  hear = new Set<(message: unknown, buffers: DataView[]) => void>();
  send = (content: unknown) => void this.sent.push(content as Record<string, unknown>);
  on = (_: string, callback: (message: unknown, buffers: DataView[]) => void) =>
    void this.hear.add(callback);
  off = (_: string, callback: (message: unknown, buffers: DataView[]) => void) =>
    void this.hear.delete(callback);
  answer(index: number, more: object, buffers: DataView[] = []) {
    for (const hear of this.hear) hear({ key: this.sent[index]!.key, ...more }, buffers);
  }
}

let channel: Fake;
beforeEach(() => {
  channel = new Fake();
});

test("a question is asked once, and its answer is kept", async () => {
  const kernel = new Kernel(channel);
  const [first, second] = [kernel.ask({ kind: "a" }), kernel.ask({ kind: "a" })];
  channel.answer(0, { side: 3 });
  expect((await first).message.side).toBe(3);
  expect(await second).toBe(await first);
  await kernel.ask({ kind: "a" });
  expect(channel.sent).toHaveLength(1);
});

test("a float off its boundary in the message is read whole", async () => {
  const kernel = new Kernel(channel);
  const promise = kernel.ask({ kind: "tile" });
  const bytes = new Uint8Array(1 + 8);
  new DataView(bytes.buffer).setFloat32(1, 0.25, true);
  new DataView(bytes.buffer).setFloat32(5, 0.5, true);
  channel.answer(0, {}, [new DataView(bytes.buffer, 1, 8)]);
  expect([...new Float32Array((await promise).buffers[0]!)]).toEqual([0.25, 0.5]);
});

test("questions asked together are answered by one message, each by itself", async () => {
  const kernel = new Kernel(channel);
  kernel.askTogether([{ kind: "outline" }, { kind: "tile", head: 9 }, { kind: "picture" }]);
  const answers = [kernel.ask({ kind: "outline" }), kernel.ask({ kind: "picture" })];
  const refused = kernel.ask({ kind: "tile", head: 9 });
  expect(channel.sent).toHaveLength(1);
  const [outline, tile, picture] = channel.sent[0]!.questions as { key: string }[];
  const told = [
    { key: outline!.key, model: "m", buffers: 0 },
    { key: tile!.key, error: "SelectionError: head 9", buffers: 0 },
    { key: picture!.key, buffers: 1 },
  ];
  channel.answer(0, { answers: told }, [new DataView(new Uint8Array([7]).buffer)]);
  await expect(refused).rejects.toThrow("head 9");
  const [first, second] = await Promise.all(answers);
  expect(first!.message.model).toBe("m");
  expect(new Uint8Array(second!.buffers[0]!)[0]).toBe(7);
});

test("what is told before it is asked is not asked", async () => {
  const kernel = new Kernel(channel);
  const [contents, picture] = [{ kind: "contents" }, { kind: "picture", head: 2 }];
  kernel.learn([
    { question: contents, message: { sides: ["a"] }, numbers: null },
    { question: picture, message: null, numbers: null },
  ]);
  expect((await kernel.ask(contents)).buffers).toEqual([]);
  const asked = kernel.ask(picture);
  kernel.learn([
    { question: contents, message: null, numbers: null }, // came before
    { question: picture, message: { width: 2 }, numbers: "AAEC/w==" },
  ]);
  const { message, buffers } = await asked;
  expect(message.width).toBe(2);
  expect([...new Uint8Array(buffers[0]!)]).toEqual([0, 1, 2, 255]);
  kernel.askForMissing();
  expect(channel.sent).toEqual([]);
});

test("what was to come and did not is asked, once", async () => {
  const kernel = new Kernel(channel);
  kernel.learn([{ question: { kind: "picture" }, message: null, numbers: null }]);
  const asked = kernel.ask({ kind: "picture" });
  kernel.askForMissing();
  kernel.askForMissing();
  expect(channel.sent).toHaveLength(1);
  const [question] = channel.sent[0]!.questions as { key: string }[];
  channel.answer(0, { answers: [{ key: question!.key, width: 3, buffers: 0 }] });
  expect((await asked).message.width).toBe(3);
});

test("what was asked and is then told is not waited for any more", async () => {
  vi.useFakeTimers();
  const said: boolean[] = [];
  const kernel = new Kernel(channel, (busy) => said.push(busy));
  const asked = kernel.ask({ kind: "picture" });
  kernel.learn([{ question: { kind: "picture" }, message: null, numbers: null }]);
  kernel.learn([{ question: { kind: "picture" }, message: { width: 2 }, numbers: null }]);
  expect((await asked).message.width).toBe(2);
  kernel.askForMissing();
  vi.advanceTimersByTime(10_000);
  expect(said).toEqual([false]);
  expect(channel.sent).toHaveLength(1);
  vi.useRealTimers();
});

test("an error reaches the asker, and the question may be asked again", async () => {
  const kernel = new Kernel(channel);
  const promise = kernel.ask({ kind: "tile" });
  channel.answer(0, { error: "SelectionError: layer 9" });
  await expect(promise).rejects.toThrow("layer 9");
  void kernel.ask({ kind: "tile" });
  expect(channel.sent).toHaveLength(2);
});

test("two views of a widget each hear the answer to the same question", async () => {
  const views = [new Kernel(channel), new Kernel(channel)];
  const answers = views.map((view) => view.ask({ kind: "outline" }));
  channel.answer(0, { model: "m" });
  for (const answer of await Promise.all(answers)) expect(answer.message.model).toBe("m");
});

test("old answers are forgotten when they take too much room", async () => {
  const kernel = new Kernel(channel);
  for (let layer = 0; layer < 4; layer++) {
    void kernel.ask({ kind: "picture", layer });
    channel.answer(layer, {}, [new DataView(new ArrayBuffer(30_000_000))]);
  }
  void kernel.ask({ kind: "picture", layer: 3 });
  expect(channel.sent).toHaveLength(4);
  void kernel.ask({ kind: "picture", layer: 0 });
  expect(channel.sent).toHaveLength(5);
});

test("a silent kernel is told of, and that it answered again", () => {
  vi.useFakeTimers();
  const said: boolean[] = [];
  const kernel = new Kernel(channel, (busy) => said.push(busy));
  void kernel.ask({ kind: "outline" });
  vi.advanceTimersByTime(10_000);
  expect(said).toEqual([true]);
  channel.answer(0, {});
  expect(said).toEqual([true, false]);
  kernel.close();
  expect(channel.hear.size).toBe(0);
  vi.useRealTimers();
});

test("a kernel that is gone is said so", async () => {
  const kernel = new Kernel(channel);
  channel.send = () => {
    throw new Error("Cannot send");
  };
  await expect(kernel.ask({ kind: "outline" })).rejects.toThrow(KernelGone);
});
