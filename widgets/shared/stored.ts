// Answers that were asked for beforehand, in place of a kernel that is there no more. What is
// known of a whole matrix answers for any part of it; nbllm/widgets/page.py is the other side.

import { bytesOf } from "./base64";
import type { Channel, Question } from "./kernel";

type Hear = (message: unknown, buffers: DataView[]) => void;
type Range = [start: number, stop: number];

interface Entry {
  question: Question;
  message: Record<string, unknown>;
  block?: number;
}

export interface Answers {
  entries: Entry[];
  blocks: string[]; // each the base64 of a zlib stream
}

export const NOT_STORED =
  "This page holds only a part of the recording, and this is not in it. In the notebook, " +
  "view.to_html(path, heads=…, budget=…) chooses what a page holds.";

export class Stored implements Channel {
  #listeners = new Set<Hear>();
  #entries = new Map<string, Entry[]>(); // by what they are about

  constructor(private answers: Answers) {
    for (const entry of answers.entries) {
      const subject = subjectOf(entry.question);
      this.#entries.set(subject, [...(this.#entries.get(subject) ?? []), entry]);
    }
  }

  on(_: "msg:custom", callback: Hear) {
    this.#listeners.add(callback);
  }

  off(_: "msg:custom", callback: Hear) {
    this.#listeners.delete(callback);
  }

  send(content: unknown) {
    const { questions } = content as { questions?: Question[] };
    for (const question of questions ?? [content as Question]) this.#tell(question);
  }

  #tell(question: Question) {
    void this.#answer(question)
      .catch((error: Error) => ({ message: { error: error.message }, buffers: [] }))
      .then(({ message, buffers }) => {
        for (const hear of this.#listeners) hear({ ...message, key: question.key }, buffers);
      });
  }

  async #answer(question: Question): Promise<{ message: object; buffers: DataView[] }> {
    const entry = this.#find(question, (stored) => sameWindow(stored.question, question));
    if (entry) return { message: entry.message, buffers: await this.#numbers(entry) };
    const whole =
      this.#find(question, (stored) => isWhole(stored) && covers(stored, question)) ??
      this.#find({ ...question, kind: "tile" }, (stored) => covers(stored, question));
    const told = question.kind === "tile" ? whole : this.#find(question, () => true);
    if (!whole || !told) throw new Error(NOT_STORED);
    const [from, to] = [extentOf(whole)!, windowOf(question)!];
    const [numbers] = await this.#numbers(whole);
    const message = { ...partOf(told.message, from, to), ...(told !== whole && { exact: true }) };
    return { message, buffers: [cut(numbers!, from, to)] };
  }

  #find(question: Question, fits: (stored: Entry) => boolean) {
    return this.#entries.get(subjectOf(question))?.find(fits);
  }

  async #numbers({ block }: Entry): Promise<DataView[]> {
    if (block === undefined) return [];
    const packed = bytesOf(this.answers.blocks[block]!);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return [new DataView(await new Response(stream).arrayBuffer())];
  }
}

/** A question but for its window and size; over all heads of a layer, also but for the head. */
function subjectOf({ key: _key, size: _size, rows: _rows, columns: _columns, ...rest }: Question) {
  if (rest.how === "mean" || rest.how === "max") delete rest.head;
  return JSON.stringify(Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1)));
}

interface Window {
  rows: Range;
  columns: Range;
}

const windowOf = ({ rows, columns }: Question): Window | undefined =>
  rows && columns ? { rows: rows as Range, columns: columns as Range } : undefined;

/** The window of a stored answer: one that was asked for all says what that is. */
const extentOf = ({ question, message }: Entry): Window | undefined =>
  windowOf(question) ?? windowOf(message as unknown as Question);

const sameWindow = (a: Question, b: Question): boolean =>
  JSON.stringify(windowOf(a)) === JSON.stringify(windowOf(b));

function covers(stored: Entry, question: Question): boolean {
  const [outer, inner] = [extentOf(stored), windowOf(question)];
  if (!outer || !inner) return false;
  return (["rows", "columns"] as const).every(
    (side) => outer[side][0] <= inner[side][0] && inner[side][1] <= outer[side][1],
  );
}

const length = ([start, stop]: Range): number => stop - start;

/** Whether a picture has a pixel for each weight, so that a part of it can be cut out. */
function isWhole(stored: Entry): boolean {
  const window = extentOf(stored);
  const { height, width } = stored.message;
  return window !== undefined && height === length(window.rows) && width === length(window.columns);
}

/** What is said of a whole, said of a part: its size, and the masses of its rows. */
function partOf(message: Record<string, unknown>, from: Window, to: Window): object {
  const part: Record<string, unknown> = { ...message, ...to };
  if ("height" in message) {
    Object.assign(part, { height: length(to.rows), width: length(to.columns) });
  }
  if (Array.isArray(message.sinkMass)) {
    const start = to.rows[0] - from.rows[0];
    part.sinkMass = message.sinkMass.slice(start, start + length(to.rows));
  }
  return part;
}

/** The part of a matrix, stored row by row, that lies in a window of it. */
export function cut(whole: DataView, from: Window, to: Window): DataView {
  const width = length(from.columns);
  const item = whole.byteLength / (length(from.rows) * width);
  const line = length(to.columns) * item;
  const part = new Uint8Array(length(to.rows) * line);
  for (let row = 0; row < length(to.rows); row++) {
    const first = (to.rows[0] - from.rows[0] + row) * width + to.columns[0] - from.columns[0];
    part.set(new Uint8Array(whole.buffer, whole.byteOffset + first * item, line), row * line);
  }
  return new DataView(part.buffer);
}
