// The exact weight of the cell under the pointer, or the largest of its block.

import { h } from "../shared/dom";
import type { Range } from "../shared/protocol";
import { weightText } from "./layout";
import { joinedWeight } from "./plot";
import type { AttentionSource, Axes, Selection } from "./source";

/** The cell under the pointer, and the block of cells that share its pixel or its words. */
export interface Cell {
  at: [query: number, key: number];
  rows: Range;
  columns: Range;
  units: Axes;
  selection: Selection;
  joins: boolean; // the block is two words, with one joined weight
}

const HINT = "Rows look at columns. Point at a cell to read its weight; after a click the wheel zooms.";

export class Readout {
  readonly element = h("p", { class: "readout", "aria-live": "polite" });
  /** The cell with the largest weight of the block, once known. */
  hottest: [query: number, key: number] | undefined;
  #cell: Cell | undefined;
  #waiting = false;

  constructor(private source: AttentionSource) {}

  /** Empties the readout, where there is no matrix. */
  clear() {
    this.#cell = undefined;
    this.hottest = undefined;
    this.element.textContent = "";
  }

  show(cell: Cell | undefined) {
    if (String(cell?.at) !== String(this.#cell?.at)) this.hottest = undefined;
    this.#cell = cell;
    void this.#describe();
  }

  async #describe(): Promise<void> {
    const cell = this.#cell;
    if (!cell) {
      this.element.textContent = HINT;
      return;
    }
    const { rows, columns, units: { queries, keys } } = cell;
    if (this.source.outline.causal && columns[0] >= rows[1]) {
      const [query, key] = [queries.label(queries.of[rows[0]]!), keys.label(keys.of[columns[0]]!)];
      this.element.textContent = `“${query}” cannot see “${key}”: it comes later.`;
      return;
    }
    if (this.#waiting) return; // of the cells that the pointer crosses meanwhile, only the last is requested
    this.#waiting = true;
    const tile = await this.source.tile(cell.selection, rows, columns).catch(() => undefined);
    this.#waiting = false;
    if (cell !== this.#cell) {
      if (this.#cell) await this.#describe();
      return;
    }
    if (tile) this.#fill(cell, tile.weights);
  }

  #fill({ rows, columns, units: { queries, keys }, joins }: Cell, weights: Float32Array[]) {
    let [query, key, most] = [rows[0], columns[0], 0];
    weights.forEach((row, down) =>
      row.forEach((weight, right) => {
        if (Math.abs(weight) > Math.abs(most)) {
          [query, key, most] = [rows[0] + down, columns[0] + right, weight];
        }
      }),
    );
    this.hottest = [query, key];
    const [height, width] = [rows[1] - rows[0], columns[1] - columns[0]];
    const cells = joins ? `joined, ${height} × ${width} cells` : `largest of ${height} × ${width} cells`;
    const [queryUnit, keyUnit] = [queries.of[query]!, keys.of[key]!];
    this.element.replaceChildren(
      h("b", {}, queries.label(queryUnit)),
      ` ${numbers(queries.tokens(queryUnit))} → `,
      h("b", {}, keys.label(keyUnit)),
      ` ${numbers(keys.tokens(keyUnit))}: `,
      h("b", { class: "weight" }, weightText(joins ? joinedWeight(weights) : most)),
      height * width > 1 ? ` (${cells})` : "",
    );
  }
}

/** Formats the token numbers of a unit. */
const numbers = ([start, stop]: Range): string => (stop - start === 1 ? `${start}` : `${start}–${stop - 1}`);
