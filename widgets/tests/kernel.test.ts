import { beforeEach, expect, test, vi } from "vitest";

import { type Channel, Kernel as AnyKernel, KernelGone } from "../shared/kernel";
import type { AnswerMessage, InitialAnswer, RequestMessage } from "../shared/protocol";

vi.stubGlobal("window", globalThis);

/** Any request, and an answer with a number in it. */
interface Request {
  kind: string;
  head?: number;
}
class Kernel extends AnyKernel<Request, Record<string, { side: number }>> {}

type Respond = (message: AnswerMessage, buffers: DataView[]) => void;

/** Stands for the Python half: keeps the requests, answers on demand. */
class Fake implements Channel {
  sent: RequestMessage[] = [];
  views = new Set<Respond>();
  send = (message: RequestMessage) => void this.sent.push(message);
  on = (_: "msg:custom", respond: Respond) => void this.views.add(respond);
  off = (_: "msg:custom", respond: Respond) => void this.views.delete(respond);
  /** Answers the requests of a message, each by a number, an error or buffers. */
  answer(message: number, answers: (number | string | DataView[])[]) {
    const numbered = this.sent[message]!.requests.map(({ id }, at) => {
      const answer = answers[at]!;
      const [number, error] = [typeof answer === "number", typeof answer === "string"];
      const content = error ? null : { side: number ? answer : 0 };
      return { id, content, error: error ? String(answer) : null, buffers: Array.isArray(answer) ? answer.length : 0 };
    });
    const buffers = answers.filter((answer) => Array.isArray(answer)).flat();
    for (const respond of this.views) respond({ answers: numbered }, buffers);
  }
}

let channel: Fake;
beforeEach(() => {
  channel = new Fake();
});

const initial = (request: Request, side: number | null, numbers: string | null = null): InitialAnswer => ({
  request: request as never, content: side === null ? null : { side }, numbers,
});

test("a request is sent once, and its answer is kept", async () => {
  const kernel = new Kernel(channel);
  const [first, second] = [kernel.request({ kind: "a" }), kernel.request({ kind: "a" })];
  channel.answer(0, [3]);
  expect((await first).content.side).toBe(3);
  expect(await second).toBe(await first);
  await kernel.request({ kind: "a" });
  expect(channel.sent).toHaveLength(1);
});

test("a request carries a number, and is the same in any order of its fields", async () => {
  const kernel = new Kernel(channel);
  void kernel.request({ kind: "a", head: 1 });
  void kernel.request({ head: 1, kind: "a" });
  expect(channel.sent).toHaveLength(1);
  const [{ id, request }] = channel.sent[0]!.requests as [RequestMessage["requests"][0]];
  expect(Number.isSafeInteger(id)).toBe(true);
  expect(request).toEqual({ kind: "a", head: 1 });
});

test("another version has another answer", async () => {
  const kernel = new Kernel(channel);
  void kernel.request({ kind: "a" }, 1);
  const second = kernel.request({ kind: "a" }, 2);
  channel.answer(1, [7]);
  expect((await second).content.side).toBe(7);
  expect(channel.sent).toHaveLength(2);
});

test("a command is sent each time", async () => {
  const kernel = new Kernel(channel);
  const both = [kernel.command({ kind: "explain" }), kernel.command({ kind: "explain" })];
  channel.answer(1, ["ValueError: no"]);
  channel.answer(0, [0]);
  await both[0];
  await expect(both[1]).rejects.toThrow("no");
});

test("a float off its boundary in the message is read whole", async () => {
  const kernel = new Kernel(channel);
  const promise = kernel.request({ kind: "tile" });
  const bytes = new Uint8Array(1 + 8);
  new DataView(bytes.buffer).setFloat32(1, 0.25, true);
  new DataView(bytes.buffer).setFloat32(5, 0.5, true);
  channel.answer(0, [[new DataView(bytes.buffer, 1, 8)]]);
  expect([...new Float32Array((await promise).buffers[0]!)]).toEqual([0.25, 0.5]);
});

test("requests sent together are answered by one message, each by itself", async () => {
  const kernel = new Kernel(channel);
  kernel.requestAll([{ kind: "outline" }, { kind: "tile", head: 9 }, { kind: "picture" }]);
  const answers = [kernel.request({ kind: "outline" }), kernel.request({ kind: "picture" })];
  const refused = kernel.request({ kind: "tile", head: 9 });
  expect(channel.sent).toHaveLength(1);
  channel.answer(0, [4, "SelectionError: head 9", [new DataView(new Uint8Array([7]).buffer)]]);
  await expect(refused).rejects.toThrow("head 9");
  const [first, second] = await Promise.all(answers);
  expect(first!.content.side).toBe(4);
  expect(new Uint8Array(second!.buffers[0]!)[0]).toBe(7);
});

test("an initial answer spares its request", async () => {
  const kernel = new Kernel(channel);
  const [contents, picture] = [{ kind: "contents" }, { kind: "picture", head: 2 }];
  kernel.receiveInitial([initial(contents, 1), initial(picture, null)]);
  expect((await kernel.request(contents)).buffers).toEqual([]);
  const requested = kernel.request(picture);
  kernel.receiveInitial([initial(contents, null), initial(picture, 2, "AAEC/w==")]); // the first came before
  const { content, buffers } = await requested;
  expect(content.side).toBe(2);
  expect([...new Uint8Array(buffers[0]!)]).toEqual([0, 1, 2, 255]);
  kernel.requestMissing();
  expect(channel.sent).toEqual([]);
});

test("an announced answer that did not arrive is requested, once", async () => {
  const kernel = new Kernel(channel);
  kernel.receiveInitial([initial({ kind: "picture" }, null)]);
  const requested = kernel.request({ kind: "picture" });
  kernel.requestMissing();
  kernel.requestMissing();
  expect(channel.sent).toHaveLength(1);
  channel.answer(0, [3]);
  expect((await requested).content.side).toBe(3);
});

test("a request that an initial answer settles is no longer pending", async () => {
  vi.useFakeTimers();
  const reported: boolean[] = [];
  const kernel = new Kernel(channel, (busy) => reported.push(busy));
  const requested = kernel.request({ kind: "picture" });
  kernel.receiveInitial([initial({ kind: "picture" }, null)]);
  kernel.receiveInitial([initial({ kind: "picture" }, 2)]);
  expect((await requested).content.side).toBe(2);
  kernel.requestMissing();
  vi.advanceTimersByTime(10_000);
  expect(reported).toEqual([false]);
  expect(channel.sent).toHaveLength(1);
  vi.useRealTimers();
});

test("an error rejects the request, which may be sent again", async () => {
  const kernel = new Kernel(channel);
  const promise = kernel.request({ kind: "tile" });
  channel.answer(0, ["SelectionError: layer 9"]);
  await expect(promise).rejects.toThrow("layer 9");
  void kernel.request({ kind: "tile" });
  expect(channel.sent).toHaveLength(2);
});

test("views of a widget, in two windows too, take none of each other's answers", async () => {
  const views = [new Kernel(channel), new Kernel(channel)];
  const [one, other] = [views[0]!.request({ kind: "a" }), views[1]!.request({ kind: "b" })];
  channel.answer(1, [2]);
  channel.answer(0, [1]);
  expect((await one).content.side).toBe(1);
  expect((await other).content.side).toBe(2);
});

test("old answers are forgotten when they take too much room", async () => {
  const kernel = new Kernel(channel);
  for (let head = 0; head < 4; head++) {
    void kernel.request({ kind: "picture", head });
    channel.answer(head, [[new DataView(new ArrayBuffer(30_000_000))]]);
  }
  void kernel.request({ kind: "picture", head: 3 });
  expect(channel.sent).toHaveLength(4);
  void kernel.request({ kind: "picture", head: 0 });
  expect(channel.sent).toHaveLength(5);
});

test("a silent kernel is reported, and its next answer too", () => {
  vi.useFakeTimers();
  const reported: boolean[] = [];
  const kernel = new Kernel(channel, (busy) => reported.push(busy));
  void kernel.request({ kind: "outline" });
  vi.advanceTimersByTime(10_000);
  expect(reported).toEqual([true]);
  channel.answer(0, [0]);
  expect(reported).toEqual([true, false]);
  kernel.close();
  expect(channel.views.size).toBe(0);
  vi.useRealTimers();
});

test("a kernel that is gone is reported", async () => {
  const kernel = new Kernel(channel);
  channel.send = () => {
    throw new Error("Cannot send");
  };
  await expect(kernel.request({ kind: "outline" })).rejects.toThrow(KernelGone);
});
