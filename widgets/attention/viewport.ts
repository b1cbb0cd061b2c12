// The window of the matrix that is on screen, in tokens: zooming and panning.

import type { Range } from "../shared/protocol";

export type Window = [top: number, bottom: number, left: number, right: number];

const SMALLEST = 8; // tokens per side

/** Returns the window scaled by a factor (below 1 zooms in) around a cell; null for the nullIfWhole matrix. */
export function zoom(
  [rows, columns]: [Range, Range],
  [height, width]: [number, number],
  factor: number,
  [row, column]: [number, number],
): Window | null {
  const [top, bottom] = scaleRange(rows, height, factor, row);
  const [left, right] = scaleRange(columns, width, factor, column);
  return nullIfWhole([top, bottom, left, right], [height, width]);
}

/** Returns the window moveRange by some tokens, within the matrix. */
export function pan(
  [rows, columns]: [Range, Range],
  [height, width]: [number, number],
  [down, right]: [number, number],
): Window | null {
  return nullIfWhole([...moveRange(rows, height, down), ...moveRange(columns, width, right)], [height, width]);
}

/** Returns the window moveRange as little as needed to contain a cell. */
export function panTo(
  [rows, columns]: [Range, Range],
  size: [number, number],
  [row, column]: [number, number],
): Window | null {
  const need = ([start, stop]: Range, at: number) =>
    at < start ? at - start : at >= stop ? at - stop + 1 : 0;
  return pan([rows, columns], size, [need(rows, row), need(columns, column)]);
}

function nullIfWhole(window: Window, [height, width]: [number, number]): Window | null {
  const [top, bottom, left, right] = window;
  return top === 0 && left === 0 && bottom === height && right === width ? null : window;
}

function scaleRange([start, stop]: Range, count: number, factor: number, around: number): Range {
  const size = Math.min(count, Math.max(SMALLEST, Math.round((stop - start) * factor)));
  const before = (around + 0.5 - start) / (stop - start); // stays where it is on screen
  const first = Math.round(around + 0.5 - before * size);
  return moveRange([first, first + size], count, 0);
}

function moveRange([start, stop]: Range, count: number, by: number): Range {
  const size = stop - start;
  const first = Math.max(0, Math.min(count - size, start + by));
  return [first, first + size];
}
