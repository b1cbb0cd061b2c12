// The rows of a query, fetched in blocks as they come on screen.

import type { Kernel, Outline, RowWindow } from "./outline";
import { isOpen, type Query } from "./query";

const BLOCK = 64;
const KEPT = 40; // blocks

export interface Row {
  place: number; // in the query
  row: number; // in the frame
  index: string;
  cells: (string | null)[];
  correction: string | null;
  wrong: boolean;
  failed: boolean;
}

export class Rows {
  #blocks = new Map<number, Promise<RowWindow>>();
  #known = new Map<number, RowWindow>(); // by block; the initial rows at -1
  #query: Query;
  #edits = 0;
  #generation = 0;
  #old = new Map<number, RowWindow>(); // shown until the same rows have been fetched again
  #corrected = new Map<number, { label: string | null; confirmed: boolean }>();
  total: number;

  constructor(
    private kernel: Kernel,
    outline: Outline,
    query: Query,
    edits: number,
    initial: RowWindow,
  ) {
    this.#query = query;
    this.#edits = edits;
    this.total = outline.size;
    // The first rows come with the widget, so that a busy kernel does not delay them.
    if (isOpen(query) && query.sort === null && !query.descending && edits === 0) {
      this.#known.set(-1, initial);
    }
  }

  /** Starts another query. */
  reset(query: Query, edits: number) {
    this.#query = query;
    this.refresh(edits);
    this.#old.clear();
  }

  /** Requests the same rows again after a correction, and shows the old ones meanwhile. */
  refresh(edits: number) {
    this.#edits = edits;
    this.#generation++;
    this.#blocks.clear();
    // Also those from before earlier corrections, whose new rows may not have arrived.
    this.#old = new Map([...this.#old, ...this.#known].slice(-KEPT));
    this.#known = new Map();
  }

  /** Shows a correction before the kernel has confirmed it. */
  correct(row: number, label: string | null) {
    this.#corrected.set(row, { label, confirmed: false });
  }

  /** Notes that the kernel has a correction, so that rows requested from now on include it. */
  confirm(row: number) {
    const correction = this.#corrected.get(row);
    if (correction) correction.confirmed = true;
  }

  /** Drops a correction that the kernel refused. */
  reject(row: number) {
    this.#corrected.delete(row);
  }

  /** Fetches the rows at places start to stop; returns false if the query has changed meanwhile. */
  async fetch(start: number, stop: number): Promise<boolean> {
    const generation = this.#generation;
    if (this.#covers(start, stop)) return true;
    const blocks: Promise<RowWindow>[] = [];
    for (let block = Math.floor(start / BLOCK); block * BLOCK < stop; block++) {
      blocks.push(this.#block(block));
    }
    await Promise.all(blocks);
    return generation === this.#generation;
  }

  /** Returns a row that was fetched. */
  at(place: number): Row | undefined {
    const block = Math.floor(place / BLOCK);
    for (const window of [this.#known, this.#old].flatMap((kept) => [kept.get(block), kept.get(-1)])) {
      const n = window ? place - window.start : -1;
      if (!window || n < 0 || n >= window.rows.length) continue;
      const row = window.rows[n]!;
      return {
        place,
        row,
        index: window.index[n]!,
        cells: window.cells.map((column) => column[n] ?? null),
        correction: (this.#corrected.get(row) ?? { label: window.corrections[n]! }).label,
        wrong: window.wrong[n]!,
        failed: window.failed[n]!,
      };
    }
    return undefined;
  }

  /** Returns the positions in the frame of the rows at places start to stop, fetched or not. */
  async numbers(start: number, stop: number): Promise<number[]> {
    const known = Array.from({ length: stop - start }, (_, n) => this.at(start + n)?.row);
    if (!known.includes(undefined)) return known as number[];
    const { buffers } = await this.kernel.request({
      kind: "numbers", query: this.#query, start, stop,
    }, this.#edits);
    return [...new Int32Array(buffers[0]!)];
  }

  #covers(start: number, stop: number): boolean {
    const initial = this.#known.get(-1);
    return start >= stop || (initial !== undefined && stop <= initial.rows.length);
  }

  #block(block: number): Promise<RowWindow> {
    const known = this.#blocks.get(block);
    if (known) return known;
    const generation = this.#generation;
    const request = this.kernel
      .request({
        kind: "rows", query: this.#query, start: block * BLOCK, stop: (block + 1) * BLOCK,
      }, this.#edits)
      .then(({ buffers }) => {
        const window = JSON.parse(new TextDecoder().decode(buffers[0]!)) as RowWindow;
        if (generation === this.#generation) {
          this.#known.set(block, window);
          this.total = window.total;
          for (const row of window.rows) {
            if (this.#corrected.get(row)?.confirmed) this.#corrected.delete(row);
          }
        }
        return window;
      });
    this.#blocks.set(block, request);
    request.catch(() => this.#blocks.delete(block));
    for (const old of this.#blocks.keys()) {
      if (this.#blocks.size <= KEPT) break;
      if (old === block) continue;
      this.#blocks.delete(old);
      this.#known.delete(old);
    }
    return request;
  }
}
