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
  #known = new Map<number, RowWindow>();
  #query: Query;
  #edits = 0;
  #generation = 0;
  #old = new Map<number, RowWindow>(); // shown until the corrected rows are there
  #corrected = new Map<number, { label: string | null; taken: boolean }>();
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
    // The first rows came with the widget, so that they are there while the kernel is busy.
    if (isOpen(query) && query.sort === null && !query.descending && edits === 0) {
      this.#known.set(-1, initial);
    }
  }

  /** Another query: other rows. */
  reset(query: Query, edits: number) {
    this.#query = query;
    this.refresh(edits);
    this.#old.clear();
  }

  /** Corrections: the same rows are requested anew, and shown as they were meanwhile. */
  refresh(edits: number) {
    this.#edits = edits;
    this.#generation++;
    this.#blocks.clear();
    // Those of corrections before too: their rows may not have come yet.
    this.#old = new Map([...this.#old, ...this.#known].slice(-KEPT));
    this.#known = new Map();
  }

  /** Shows a correction that the kernel has yet to take in. */
  correct(row: number, label: string | null) {
    this.#corrected.set(row, { label, taken: false });
  }

  /** The kernel has it, and rows that are requested from now on have it too. */
  taken(row: number) {
    const correction = this.#corrected.get(row);
    if (correction) correction.taken = true;
  }

  /** The kernel refused it. */
  withdraw(row: number) {
    this.#corrected.delete(row);
  }

  /** Fetches what is needed of rows start to stop; false where the query has changed meanwhile. */
  async fetch(start: number, stop: number): Promise<boolean> {
    const generation = this.#generation;
    if (this.#covers(start, stop)) return true;
    const wanted: Promise<RowWindow>[] = [];
    for (let block = Math.floor(start / BLOCK); block * BLOCK < stop; block++) {
      wanted.push(this.#block(block));
    }
    await Promise.all(wanted);
    return generation === this.#generation;
  }

  /** A row that was fetched. */
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

  /** The rows at places start to stop, by their number in the frame; all, fetched or not. */
  async numbers(start: number, stop: number): Promise<number[]> {
    const known = Array.from({ length: stop - start }, (_, n) => this.at(start + n)?.row);
    if (!known.includes(undefined)) return known as number[];
    const { buffers } = await this.kernel.ask({
      kind: "numbers", query: this.#query, start, stop,
    }, this.#edits);
    return [...new Int32Array(buffers[0]!)];
  }

  #covers(start: number, stop: number): boolean {
    const opening = this.#known.get(-1);
    if (opening && stop <= opening.rows.length) return true;
    return start >= stop;
  }

  #block(block: number): Promise<RowWindow> {
    const known = this.#blocks.get(block);
    if (known) return known;
    const generation = this.#generation;
    const asked = this.kernel
      .ask({
        kind: "rows", query: this.#query, start: block * BLOCK, stop: (block + 1) * BLOCK,
      }, this.#edits)
      .then(({ buffers }) => {
        const window = JSON.parse(new TextDecoder().decode(buffers[0]!)) as RowWindow;
        if (generation === this.#generation) {
          this.#known.set(block, window);
          this.total = window.total;
          for (const row of window.rows) {
            if (this.#corrected.get(row)?.taken) this.#corrected.delete(row);
          }
        }
        return window;
      });
    this.#blocks.set(block, asked);
    asked.catch(() => this.#blocks.delete(block));
    for (const old of this.#blocks.keys()) {
      if (this.#blocks.size <= KEPT) break;
      if (old === block) continue;
      this.#blocks.delete(old);
      this.#known.delete(old);
    }
    return asked;
  }
}
