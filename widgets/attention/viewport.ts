// The window of the matrix that is on screen: zooming and panning, in tokens.

import type { Range } from "../shared/protocol";

export type Window = [top: number, bottom: number, left: number, right: number];

const SMALLEST = 8; // tokens a side

/** The window after zooming by a factor (below 1: nearer) around a point; null for all. */
export function zoomed(
  [rows, columns]: [Range, Range],
  [height, width]: [number, number],
  factor: number,
  [row, column]: [number, number],
): Window | null {
  const [top, bottom] = stretched(rows, height, factor, row);
  const [left, right] = stretched(columns, width, factor, column);
  return whole([top, bottom, left, right], [height, width]);
}

/** The window moved by so many tokens, within the matrix. */
export function panned(
  [rows, columns]: [Range, Range],
  [height, width]: [number, number],
  [down, right]: [number, number],
): Window | null {
  return whole([...moved(rows, height, down), ...moved(columns, width, right)], [height, width]);
}

/** The window moved as little as needed to hold a cell. */
export function holding(
  [rows, columns]: [Range, Range],
  size: [number, number],
  [row, column]: [number, number],
): Window | null {
  const need = ([start, stop]: Range, at: number) =>
    at < start ? at - start : at >= stop ? at - stop + 1 : 0;
  return panned([rows, columns], size, [need(rows, row), need(columns, column)]);
}

function whole(window: Window, [height, width]: [number, number]): Window | null {
  const [top, bottom, left, right] = window;
  return top === 0 && left === 0 && bottom === height && right === width ? null : window;
}

function stretched([start, stop]: Range, count: number, factor: number, around: number): Range {
  const size = Math.min(count, Math.max(SMALLEST, Math.round((stop - start) * factor)));
  const before = (around + 0.5 - start) / (stop - start); // stays where it is on screen
  const first = Math.round(around + 0.5 - before * size);
  return moved([first, first + size], count, 0);
}

function moved([start, stop]: Range, count: number, by: number): Range {
  const size = stop - start;
  const first = Math.max(0, Math.min(count - size, start + by));
  return [first, first + size];
}
