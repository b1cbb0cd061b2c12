// Requests to the Python half, each under a number, and its answers with their binary buffers.
// nbllm/widgets/protocol/ has the messages.

import { bytesOf } from "./base64";
import type { AnswerMessage, InitialAnswer, RequestMessage } from "./protocol";

export interface Answer<Content> {
  content: Content;
  buffers: ArrayBuffer[];
}

type Respond = (message: AnswerMessage, buffers: DataView[]) => void;

/** The part of anywidget's model that is needed here. */
export interface Channel {
  send(message: RequestMessage): void;
  on(event: "msg:custom", respond: Respond): void;
  off(event: "msg:custom", respond: Respond): void;
}

/** A request that was sent, or whose answer comes without. */
interface Pending {
  resolve: (answer: Answer<never>) => void;
  reject: (error: Error) => void;
}

const KEPT_BYTES = 64_000_000;
const GONE =
  "The kernel has stopped, so nothing more can be asked of it. Restart it and run the cell again.";

/** The kernel that a widget belongs to is there no more. */
export class KernelGone extends Error {
  constructor() {
    super(GONE);
  }
}

const PATIENCE = 1500; // ms until the reader is told that the kernel is busy

/**
 * Sends each request once and keeps its answer. All views of a widget, in other windows too,
 * receive the answers to each other: numbers begin anywhere, so that none takes those of another.
 */
export class Kernel<Request extends { kind: string }, Answers extends Record<Request["kind"], unknown>> {
  #next = Math.floor(Math.random() * 2 ** 52);
  #sent = new Map<number, string>(); // the name of each request that awaits its answer
  #pending = new Map<string, Pending>();
  #promises = new Map<string, Promise<Answer<never>>>(); // by the name of their request
  #sizes = new Map<string, number>();
  #coming = new Map<string, Request>(); // whose answers come without a request
  #timer = 0;
  /** Whether it has ever answered: a widget of a reopened notebook may have none. */
  hasAnswered = false;

  constructor(
    private channel: Channel,
    private onBusy: (busy: boolean) => void = () => {},
  ) {
    channel.on("msg:custom", this.#receive);
  }

  /** The answer to a request; of another version of what it is about it has another answer. */
  ask<One extends Request>(request: One, version = 0): Promise<Answer<Answers[One["kind"]]>> {
    const name = nameOf(request, version);
    const known = this.#promises.get(name);
    if (known) {
      this.#promises.delete(name); // needed again: the last to be forgotten
      this.#promises.set(name, known);
      return known;
    }
    const promise = this.#expect(name);
    this.#send([[name, request]]);
    return promise;
  }

  /** Does something, each time that it is called. */
  async command(request: Request): Promise<void> {
    const name = `${nameOf(request)} ${this.#next}`;
    const promise = this.#expect(name);
    this.#promises.delete(name);
    this.#send([[name, request]]);
    await promise;
  }

  /** Sends several requests at once: whoever asks for one of them has it after one round trip. */
  askTogether(requests: Request[]) {
    const named = requests.map((request): [string, Request] => [nameOf(request), request]);
    for (const [name] of named) this.#expect(name).catch(() => {}); // it is told to whoever asks
    this.#send(named);
  }

  /** Takes in answers to requests that will be made, and waits for those that are to come. */
  learn(answers: InitialAnswer[]) {
    for (const { request, content, numbers } of answers) {
      const name = nameOf(request);
      if (!this.#promises.has(name)) {
        this.#expect(name).catch(() => {});
        this.#coming.set(name, request as unknown as Request);
      }
      if (content === null) continue;
      const buffers = numbers === null ? [] : [bytesOf(numbers).buffer];
      this.#settle(name, { content: content as never, buffers });
    }
  }

  /** Requests what was to come and did not. */
  askForMissing() {
    const missing = [...this.#coming];
    this.#coming.clear();
    if (missing.length) this.#send(missing);
  }

  close() {
    this.channel.off("msg:custom", this.#receive);
    clearTimeout(this.#timer);
  }

  #expect(name: string): Promise<Answer<never>> {
    const promise = new Promise<Answer<never>>((resolve, reject) => {
      this.#pending.set(name, { resolve, reject });
    });
    this.#promises.set(name, promise);
    return promise;
  }

  #send(named: [name: string, request: Request][]) {
    const requests = named.map(([name, request]) => {
      const id = this.#next++;
      this.#sent.set(id, name);
      return { id, request };
    });
    try {
      this.channel.send({ requests });
    } catch {
      for (const { id } of requests) this.#sent.delete(id);
      for (const [name] of named) {
        this.#pending.get(name)!.reject(new KernelGone());
        this.#pending.delete(name);
        this.#promises.delete(name);
      }
      return;
    }
    if (!this.#timer) this.#timer = window.setTimeout(() => this.onBusy(true), PATIENCE);
  }

  #receive = ({ answers }: AnswerMessage, views: DataView[]) => {
    let from = 0;
    for (const { id, content, error, buffers } of answers) {
      const own = views.slice(from, (from += buffers));
      const name = id === null ? undefined : this.#sent.get(id);
      if (name === undefined) continue; // another view's
      this.#sent.delete(id!);
      if (error !== null) this.#settle(name, new Error(error));
      else this.#settle(name, { content: content as never, buffers: own.map(copied) });
    }
  };

  /** Gives whoever waits what came, and waits on for what else was requested. */
  #settle(name: string, came: Answer<never> | Error) {
    const pending = this.#pending.get(name);
    if (!pending) return;
    this.#pending.delete(name);
    this.#coming.delete(name);
    this.hasAnswered = true;
    clearTimeout(this.#timer);
    this.#timer =
      this.#pending.size > this.#coming.size
        ? window.setTimeout(() => this.onBusy(true), PATIENCE)
        : 0;
    this.onBusy(false);
    if (came instanceof Error) {
      this.#promises.delete(name);
      pending.reject(came);
      return;
    }
    if (this.#promises.has(name)) this.#sizes.set(name, came.buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0));
    pending.resolve(came);
    this.#forget();
  }

  #forget() {
    let kept = [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
    for (const name of this.#promises.keys()) {
      if (kept <= KEPT_BYTES) return;
      if (this.#pending.has(name)) continue;
      kept -= this.#sizes.get(name) ?? 0;
      this.#sizes.delete(name);
      this.#promises.delete(name);
    }
  }
}

/** A request as text, whatever the order of its fields. */
const nameOf = (request: object, version = 0): string =>
  JSON.stringify([version, ...Object.entries(request).sort(([a], [b]) => (a < b ? -1 : 1))]);

/** A copy: a view into the socket's message may start off the boundary of a float. */
const copied = ({ buffer, byteOffset, byteLength }: DataView): ArrayBuffer =>
  (buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength);
