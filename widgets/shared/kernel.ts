// Questions to the Python half, and its answers as binary buffers.

import { bytesOf } from "./base64";

export interface Question {
  kind: string;
  [name: string]: unknown;
}

export interface Answer {
  message: Record<string, unknown>;
  buffers: ArrayBuffer[];
}

/** An answer to a question that nobody asked yet; without a message it is still to come. */
export interface Told {
  question: Question;
  message: Record<string, unknown> | null;
  numbers: string | null; // base64
}

/** The part of anywidget's model that is needed here. */
export interface Channel {
  send(content: unknown): void;
  on(event: "msg:custom", callback: (message: unknown, buffers: DataView[]) => void): void;
  off(event: "msg:custom", callback: (message: unknown, buffers: DataView[]) => void): void;
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

/** Asks each thing once and remembers the answer; two views of a widget hear each other's. */
export class Kernel {
  #waiting = new Map<string, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  #promises = new Map<string, Promise<Answer>>();
  #sizes = new Map<string, number>();
  #coming = new Map<string, Question>(); // waited for, but not asked
  #timer = 0;
  /** Whether it has ever answered: a widget of a reopened notebook may have none. */
  hasAnswered = false;

  constructor(
    private channel: Channel,
    private onBusy: (busy: boolean) => void = () => {},
  ) {
    channel.on("msg:custom", this.#hear);
  }

  ask(question: Question): Promise<Answer> {
    const key = JSON.stringify(question);
    const known = this.#promises.get(key);
    if (known) {
      this.#promises.delete(key); // asked again: the last to be forgotten
      this.#promises.set(key, known);
      return known;
    }
    const promise = this.#expect(key);
    this.#send({ ...question, key }, [key]);
    return promise;
  }

  /** Asks several things at once: whoever asks for one of them then hears after one round trip. */
  askTogether(questions: Question[]) {
    const asked = questions.map((question) => ({ ...question, key: JSON.stringify(question) }));
    for (const { key } of asked) this.#expect(key).catch(() => {}); // told to whoever asks
    this.#send({ questions: asked }, asked.map(({ key }) => key));
  }

  /** Takes in answers to what will be asked, and waits for those that are to come. */
  learn(told: Told[]) {
    for (const { question, message, numbers } of told) {
      const key = JSON.stringify(question);
      if (!this.#promises.has(key)) {
        this.#expect(key).catch(() => {});
        this.#coming.set(key, question);
      }
      if (message) this.#settle(key, { message, buffers: numbers === null ? [] : [bytesOf(numbers).buffer] });
    }
  }

  /** Asks for what was to come and did not. */
  askForMissing() {
    const asked = [...this.#coming].map(([key, question]) => ({ ...question, key }));
    this.#coming.clear();
    if (asked.length) this.#send({ questions: asked }, asked.map(({ key }) => key));
  }

  #expect(key: string): Promise<Answer> {
    const promise = new Promise<Answer>((resolve, reject) => {
      this.#waiting.set(key, { resolve, reject });
    });
    this.#promises.set(key, promise);
    return promise;
  }

  #send(content: unknown, keys: string[]) {
    try {
      this.channel.send(content);
    } catch {
      for (const key of keys) {
        this.#waiting.get(key)!.reject(new KernelGone());
        this.#waiting.delete(key);
        this.#promises.delete(key);
      }
      return;
    }
    if (!this.#timer) this.#timer = window.setTimeout(() => this.onBusy(true), PATIENCE);
  }

  close() {
    this.channel.off("msg:custom", this.#hear);
    clearTimeout(this.#timer);
  }

  #hear = (content: unknown, views: DataView[]) => {
    const message = content as Record<string, unknown>;
    if (!Array.isArray(message.answers)) return this.#take(message, views);
    let from = 0;
    for (const answer of message.answers as { buffers: number }[]) {
      this.#take({ ...answer }, views.slice(from, (from += answer.buffers)));
    }
  };

  #take(message: Record<string, unknown>, views: DataView[]) {
    const key = String(message.key);
    if (typeof message.error === "string") return this.#settle(key, new Error(message.error));
    if (!this.#waiting.has(key)) return;
    // A copy: a view into the socket's message may start off the boundary of a float.
    const buffers = views.map(({ buffer, byteOffset, byteLength }) =>
      (buffer as ArrayBuffer).slice(byteOffset, byteOffset + byteLength),
    );
    this.#settle(key, { message, buffers });
  }

  /** Gives whoever waits what came, and waits on for what else was asked. */
  #settle(key: string, came: Answer | Error) {
    const waiting = this.#waiting.get(key);
    if (!waiting) return;
    this.#waiting.delete(key);
    this.#coming.delete(key);
    this.hasAnswered = true;
    clearTimeout(this.#timer);
    this.#timer =
      this.#waiting.size > this.#coming.size
        ? window.setTimeout(() => this.onBusy(true), PATIENCE)
        : 0;
    this.onBusy(false);
    if (came instanceof Error) {
      this.#promises.delete(key);
      waiting.reject(came);
      return;
    }
    this.#sizes.set(key, came.buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0));
    waiting.resolve(came);
    this.#forget();
  }

  #forget() {
    let kept = [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
    for (const key of this.#promises.keys()) {
      if (kept <= KEPT_BYTES) return;
      if (this.#waiting.has(key)) continue;
      kept -= this.#sizes.get(key) ?? 0;
      this.#sizes.delete(key);
      this.#promises.delete(key);
    }
  }
}
