// Numbered requests to the Python half, and its answers with their binary buffers.
// nbllm/widgets/protocol/ has the messages.

import { bytesOf } from "./base64";
import type { AnswerMessage, InitialAnswer, RequestMessage } from "./protocol";

export interface Answer<Content> {
  content: Content;
  buffers: ArrayBuffer[];
}

type Respond = (message: AnswerMessage, buffers: DataView[]) => void;

/** The part of anywidget's model that is used here. */
export interface Channel {
  send(message: RequestMessage): void;
  on(event: "msg:custom", respond: Respond): void;
  off(event: "msg:custom", respond: Respond): void;
}

/** A request that was sent, or whose answer was announced. */
interface Pending {
  resolve: (answer: Answer<never>) => void;
  reject: (error: Error) => void;
}

const KEPT_BYTES = 64_000_000;
const GONE =
  "The kernel has stopped, so nothing more can be asked of it. Restart it and run the cell again.";

/** The widget's kernel has stopped. */
export class KernelGone extends Error {
  constructor() {
    super(GONE);
  }
}

const BUSY_AFTER = 1500; // ms without an answer until the kernel is reported as busy

/**
 * Sends each request once and caches its answer. All views of a widget, in other windows too, receive
 * each other's answers: their numbers begin at random, so that no view takes another's answer.
 */
export class Kernel<Request extends { kind: string }, Answers extends Record<Request["kind"], unknown>> {
  #next = Math.floor(Math.random() * 2 ** 52);
  #sent = new Map<number, string>(); // the keys of sent requests, by number
  #pending = new Map<string, Pending>();
  #promises = new Map<string, Promise<Answer<never>>>(); // by the key of their request
  #sizes = new Map<string, number>();
  #announced = new Map<string, Request>(); // answered without being sent
  #timer = 0;
  /** Whether the kernel has ever answered; that of a reopened notebook may not exist. */
  hasAnswered = false;

  constructor(
    private channel: Channel,
    private onBusy: (busy: boolean) => void = () => {},
  ) {
    channel.on("msg:custom", this.#receive);
  }

  /** Returns the answer to a request, cached by its version. */
  request<One extends Request>(request: One, version = 0): Promise<Answer<Answers[One["kind"]]>> {
    const key = keyOf(request, version);
    const known = this.#promises.get(key);
    if (known) {
      this.#promises.delete(key); // reinserted as the most recently used
      this.#promises.set(key, known);
      return known;
    }
    const promise = this.#expect(key);
    this.#send([[key, request]]);
    return promise;
  }

  /** Sends a request that is never cached. */
  async command(request: Request): Promise<void> {
    const key = `${keyOf(request)} ${this.#next}`;
    const promise = this.#expect(key);
    this.#promises.delete(key);
    this.#send([[key, request]]);
    await promise;
  }

  /** Sends several requests in one message; later calls of `request` for them share its answers. */
  requestAll(requests: Request[]) {
    const keyed = requests.map((request): [string, Request] => [keyOf(request), request]);
    for (const [key] of keyed) this.#expect(key).catch(() => {}); // reported by `request`
    this.#send(keyed);
  }

  /** Caches answers that arrive before their requests, and waits for those that were announced. */
  receiveInitial(answers: InitialAnswer[]) {
    for (const { request, content, numbers } of answers) {
      const key = keyOf(request);
      if (!this.#promises.has(key)) {
        this.#expect(key).catch(() => {});
        this.#announced.set(key, request as unknown as Request);
      }
      if (content === null) continue;
      const buffers = numbers === null ? [] : [bytesOf(numbers).buffer];
      this.#settle(key, { content: content as never, buffers });
    }
  }

  /** Sends the requests whose announced answers did not arrive. */
  requestMissing() {
    const missing = [...this.#announced];
    this.#announced.clear();
    if (missing.length) this.#send(missing);
  }

  close() {
    this.channel.off("msg:custom", this.#receive);
    clearTimeout(this.#timer);
  }

  #expect(key: string): Promise<Answer<never>> {
    const promise = new Promise<Answer<never>>((resolve, reject) => {
      this.#pending.set(key, { resolve, reject });
    });
    this.#promises.set(key, promise);
    return promise;
  }

  #send(keyed: [key: string, request: Request][]) {
    const requests = keyed.map(([key, request]) => {
      const id = this.#next++;
      this.#sent.set(id, key);
      return { id, request };
    });
    try {
      this.channel.send({ requests });
    } catch {
      for (const { id } of requests) this.#sent.delete(id);
      for (const [key] of keyed) {
        this.#pending.get(key)!.reject(new KernelGone());
        this.#pending.delete(key);
        this.#promises.delete(key);
      }
      return;
    }
    if (!this.#timer) this.#timer = window.setTimeout(() => this.onBusy(true), BUSY_AFTER);
  }

  #receive = ({ answers }: AnswerMessage, views: DataView[]) => {
    let start = 0;
    for (const { id, content, error, buffers } of answers) {
      const own = views.slice(start, (start += buffers));
      const key = id === null ? undefined : this.#sent.get(id);
      if (key === undefined) continue; // for another view
      this.#sent.delete(id!);
      if (error !== null) this.#settle(key, new Error(error));
      else this.#settle(key, { content: content as never, buffers: own.map(copyOf) });
    }
  };

  /** Resolves or rejects a pending request. */
  #settle(key: string, result: Answer<never> | Error) {
    const pending = this.#pending.get(key);
    if (!pending) return;
    this.#pending.delete(key);
    this.#announced.delete(key);
    this.hasAnswered = true;
    clearTimeout(this.#timer);
    this.#timer =
      this.#pending.size > this.#announced.size
        ? window.setTimeout(() => this.onBusy(true), BUSY_AFTER)
        : 0;
    this.onBusy(false);
    if (result instanceof Error) {
      this.#promises.delete(key);
      pending.reject(result);
      return;
    }
    if (this.#promises.has(key)) this.#sizes.set(key, result.buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0));
    pending.resolve(result);
    this.#evict();
  }

  #evict() {
    let kept = [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
    for (const key of this.#promises.keys()) {
      if (kept <= KEPT_BYTES) return;
      if (this.#pending.has(key)) continue;
      kept -= this.#sizes.get(key) ?? 0;
      this.#sizes.delete(key);
      this.#promises.delete(key);
    }
  }
}

/** Returns a request as text that does not depend on the order of its fields. */
const keyOf = (request: object, version = 0): string =>
  JSON.stringify([version, ...Object.entries(request).sort(([a], [b]) => (a < b ? -1 : 1))]);

/** Copies a buffer, since a view into the socket's message may not be aligned for floats. */
const copyOf = ({ buffer, byteOffset, byteLength }: DataView): ArrayBuffer =>
  (buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength);
