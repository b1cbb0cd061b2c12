// Answers requests from the answers stored in a page by nbllm/widgets/page.py. Those on a whole
// matrix also answer for any part of it.

import { bytesOf } from "./base64";
import type { Channel } from "./kernel";
import type { AnswerMessage, NumberedRequest, Range, RequestMessage, StoredAnswer, StoredAnswers } from "./protocol";

type Respond = (message: AnswerMessage, buffers: DataView[]) => void;
/** The fields of a request; those of a window and a size may be missing. */
type Fields = { kind: string; [name: string]: unknown };
type Content = Record<string, unknown>;
interface Entry {
  request: Fields;
  content: Content;
  block?: number;
}

export const NOT_STORED =
  "This page holds only a part of the recording, and this is not in it. In the notebook, " +
  "view.to_html(path, heads=…, budget=…) chooses what a page holds.";

export class OfflineStore implements Channel {
  #listeners = new Set<Respond>();
  #entries = new Map<string, Entry[]>(); // by subject

  constructor(private answers: StoredAnswers) {
    for (const stored of answers.entries) {
      const entry = entryOf(stored);
      const subject = subjectOf(entry.request);
      this.#entries.set(subject, [...(this.#entries.get(subject) ?? []), entry]);
    }
  }

  on(_: "msg:custom", respond: Respond) {
    this.#listeners.add(respond);
  }

  off(_: "msg:custom", respond: Respond) {
    this.#listeners.delete(respond);
  }

  send({ requests }: RequestMessage) {
    for (const numbered of requests) void this.#respond(numbered);
  }

  async #respond({ id, request }: NumberedRequest) {
    const { content, error, buffers } = await this.#answer(request as Fields).then(
      (answer) => ({ ...answer, error: null }),
      (error: Error) => ({ content: null, error: error.message, buffers: [] }),
    );
    const answers = [{ id, content, error, buffers: buffers.length }];
    for (const respond of this.#listeners) respond({ answers }, buffers);
  }

  async #answer(request: Fields): Promise<{ content: Content; buffers: DataView[] }> {
    const entry = this.#find(request, (stored) => sameWindow(stored.request, request));
    if (entry) return { content: entry.content, buffers: await this.#numbers(entry) };
    const whole =
      this.#find(request, (stored) => isUnpooled(stored) && covers(stored, request)) ??
      this.#find({ ...request, kind: "tile" }, (stored) => covers(stored, request));
    const about = request.kind === "tile" ? whole : this.#find(request, () => true);
    if (!whole || !about) throw new Error(NOT_STORED);
    const [from, to] = [extentOf(whole)!, windowOf(request)!];
    const [numbers] = await this.#numbers(whole);
    const content = { ...partOf(about.content, from, to), ...(about !== whole && { exact: true }) };
    return { content, buffers: [cut(numbers!, from, to)] };
  }

  #find(request: Fields, fits: (stored: Entry) => boolean) {
    return this.#entries.get(subjectOf(request))?.find(fits);
  }

  async #numbers({ block }: Entry): Promise<DataView[]> {
    if (block === undefined) return [];
    const packed = bytesOf(this.answers.blocks[block]!);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return [new DataView(await new Response(stream).arrayBuffer())];
  }
}

const entryOf = (stored: StoredAnswer): Entry => stored as unknown as Entry;

/** Returns a request without its window and size and, over all heads of a layer, without the head. */
function subjectOf({ size: _size, rows: _rows, columns: _columns, ...rest }: Fields) {
  if (rest.reduce === "mean" || rest.reduce === "max") delete rest.head;
  return JSON.stringify(Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1)));
}

interface Window {
  rows: Range;
  columns: Range;
}

const windowOf = ({ rows, columns }: Content): Window | undefined =>
  rows && columns ? { rows: rows as Range, columns: columns as Range } : undefined;

/** Returns the window of a stored answer; a request for the whole matrix leaves it to the content. */
const extentOf = ({ request, content }: Entry): Window | undefined =>
  windowOf(request) ?? windowOf(content);

const sameWindow = (a: Fields, b: Fields): boolean =>
  JSON.stringify(windowOf(a)) === JSON.stringify(windowOf(b));

function covers(stored: Entry, request: Fields): boolean {
  const [outer, inner] = [extentOf(stored), windowOf(request)];
  if (!outer || !inner) return false;
  return (["rows", "columns"] as const).every(
    (side) => outer[side][0] <= inner[side][0] && inner[side][1] <= outer[side][1],
  );
}

const length = ([start, stop]: Range): number => stop - start;

/** Returns whether a picture has a pixel per weight, so that a part of it can be cut out. */
function isUnpooled(stored: Entry): boolean {
  const window = extentOf(stored);
  const { height, width } = stored.content;
  return window !== undefined && height === length(window.rows) && width === length(window.columns);
}

/** Returns the content for a part of a matrix: its size, and the sink masses of its rows. */
function partOf(content: Content, from: Window, to: Window): Content {
  const part: Content = { ...content, ...to };
  if ("height" in content) {
    Object.assign(part, { height: length(to.rows), width: length(to.columns) });
  }
  if (Array.isArray(content.sink_mass)) {
    const start = to.rows[0] - from.rows[0];
    part.sink_mass = content.sink_mass.slice(start, start + length(to.rows));
  }
  return part;
}

/** Cuts the window `to` out of a matrix stored row by row, which covers the window `from`. */
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
