// Draws the picture of a matrix: its place on the canvas, its pixels and its token labels.

import type { RGB } from "../shared/colour";
import type { Range } from "../shared/protocol";
import { block } from "./layout";
import type { Axes, Outline, Picture } from "./source";
import type { Units } from "./units";

export interface Place {
  left: number; // of the plot in the canvas, CSS pixels
  top: number;
  width: number;
  height: number;
  labelled: boolean;
}

export const GUTTER = 10; // pixels for the bars that mark the user's text
const NAMES = { left: 88, top: 74 }; // pixels for the token labels
const LEGIBLE = 10.5; // pixels of a cell whose token is labelled
const [WIDEST, FLATTEST] = [34, 0.2]; // pixels of a cell; height by width

/** Returns the place of a plot of rows × columns tokens in a canvas of side × side pixels. */
export function place(rows: Range, columns: Range, side: number): Place {
  const [rowCount, columnCount] = [rows[1] - rows[0], columns[1] - columns[0]];
  const fitted = (left: number, top: number, labelled: boolean): Place => {
    const width = Math.min(side - left, columnCount * WIDEST);
    const shape = Math.max(FLATTEST, Math.min(1, rowCount / columnCount));
    const height = Math.min(width * shape, rowCount * WIDEST);
    return { left, top, width, height, labelled };
  };
  const named = fitted(NAMES.left, NAMES.top, true);
  const legible = named.width / columnCount >= LEGIBLE && named.height / rowCount >= LEGIBLE;
  return legible ? named : fitted(GUTTER, GUTTER, false);
}

/** Returns the row or column that shows a token, where `side` of them cover the range. */
export const indexOf = (token: number, side: number, [start, stop]: Range): number =>
  Math.ceil(((token - start + 1) * side) / (stop - start)) - 1;

/** Returns a picture's pixels; keys that a causal model cannot see stay transparent. */
export function pixelsOf(
  { rows, columns, height, width, weights }: Picture,
  causal: boolean,
  units: Axes,
  map: RGB[],
  level: (weight: number) => number,
): ImageData {
  const image = new ImageData(width, height);
  const packed = new Uint32Array(image.data.buffer);
  const table = Uint32Array.from(
    map,
    ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0,
  );
  const starts = Array.from({ length: width }, (_, at) => covered(units.keys, block(at, width, columns))[0]);
  for (let row = 0; row < height; row++) {
    const end = covered(units.queries, block(row, height, rows))[1];
    for (let column = 0; column < width && !(causal && starts[column]! >= end); column++) {
      const at = row * width + column;
      packed[at] = table[level(weights[at]!)]!;
    }
  }
  return image;
}

/** Extends a range of tokens to total units. */
export function covered(units: Units, [start, stop]: Range): Range {
  return [units.tokens(units.of[start]!)[0], units.tokens(units.of[stop - 1]!)[1]];
}

/** Returns whether each token has its own row and column in a picture. */
export const isByToken = ({ rows, columns, height, width }: Picture): boolean =>
  height === rows[1] - rows[0] && width === columns[1] - columns[0];

/** Extends a window to total words, so that no word has only a part of its weight. */
export function wholeWords(window: [Range, Range] | null, { queries, keys }: Axes): [Range, Range] | null {
  return window && [covered(queries, window[0]), covered(keys, window[1])];
}

/** Returns the weight between words: summed over the keys, averaged over the queries, as in the lines. */
export function joinedWeight(rows: ArrayLike<number>[]): number {
  let sum = 0;
  for (const row of rows) for (let at = 0; at < row.length; at++) sum += row[at]!;
  return sum / rows.length;
}

/** Returns the largest weight of a picture in magnitude, without the sink. */
export function largestOf({ columns, height, width, weights }: Picture, keys: Units, sink: number | null): number {
  const [first, last] = sink === null ? [0, 0] : covered(keys, [sink, sink + 1]).map((at) => at - columns[0]);
  let most = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (column < first! || column >= last!) most = Math.max(most, Math.abs(weights[row * width + column]!));
    }
  }
  return most;
}

/** Returns a picture by token in which all pieces of a word have the word's weight. */
export function byWord(picture: Picture, { queries, keys }: Axes): Picture {
  const { rows, columns, height, width } = picture;
  const weights = new Float32Array(height * width);
  for (let top = 0, bottom; top < height; top = bottom) {
    bottom = Math.min(covered(queries, [rows[0] + top, rows[0] + top + 1])[1] - rows[0], height);
    for (let left = 0, right; left < width; left = right) {
      right = Math.min(covered(keys, [columns[0] + left, columns[0] + left + 1])[1] - columns[0], width);
      const line = (row: number) => picture.weights.subarray(row * width + left, row * width + right);
      const weight = joinedWeight(Array.from({ length: bottom - top }, (_, row) => line(top + row)));
      for (let row = top; row < bottom; row++) weights.fill(weight, row * width + left, row * width + right);
    }
  }
  return { ...picture, weights };
}

export type Size = [height: number, width: number];

/** Returns how many rows and columns of a picture the screen has pixels for. */
export function fitting(
  picture: Picture,
  [rows, columns]: [Range, Range],
  { height, width }: Place,
  ratio: number,
): Size {
  const length = ([start, stop]: Range) => stop - start;
  const visible = (side: number, of: Range, window: Range, total: number) =>
    Math.max(1, Math.min(total, Math.round((side * ratio * length(of)) / length(window))));
  return [
    visible(height, picture.rows, rows, picture.height),
    visible(width, picture.columns, columns, picture.width),
  ];
}

/** Pools a picture to at most `most` rows and columns, by the largest weight of each block. */
export function shrunk(picture: Picture, most: Size): Picture {
  const height = Math.min(picture.height, most[0]);
  const width = Math.min(picture.width, most[1]);
  if (height === picture.height && width === picture.width) return picture;
  const weights = new Float32Array(height * width);
  const lefts = Uint32Array.from({ length: picture.width }, (_, column) => indexOf(column, width, [0, picture.width]));
  for (let row = 0; row < picture.height; row++) {
    const to = indexOf(row, height, [0, picture.height]) * width;
    for (let column = 0; column < picture.width; column++) {
      const at = to + lefts[column]!;
      const weight = picture.weights[row * picture.width + column]!;
      if (Math.abs(weight) > Math.abs(weights[at]!)) weights[at] = weight;
    }
  }
  return { ...picture, height, width, weights, exact: false };
}

/** Draws a picture at its place in the window, which may have moved since its request. */
export function drawPicture(
  context: CanvasRenderingContext2D,
  image: ImageData,
  picture: Picture,
  [rows, columns]: [Range, Range],
  { left, top, width, height }: Place,
) {
  const cell = [width / (columns[1] - columns[0]), height / (rows[1] - rows[0])] as const;
  const source = new OffscreenCanvas(image.width, image.height);
  source.getContext("2d")!.putImageData(image, 0, 0);
  context.save();
  context.beginPath();
  context.rect(left, top, width, height);
  context.clip();
  context.imageSmoothingEnabled = false;
  context.drawImage(
    source,
    left + (picture.columns[0] - columns[0]) * cell[0],
    top + (picture.rows[0] - rows[0]) * cell[1],
    (picture.columns[1] - picture.columns[0]) * cell[0],
    (picture.rows[1] - picture.rows[0]) * cell[1],
  );
  context.restore();
}

/** Labels the tokens if there is room, else marks the user's text. */
export function drawAxes(
  context: CanvasRenderingContext2D,
  outline: Outline,
  { queries, keys }: Axes,
  [rows, columns]: [Range, Range],
  { left, top, width, height, labelled }: Place,
  [ink, accent]: [string, string],
) {
  const cell = [width / (columns[1] - columns[0]), height / (rows[1] - rows[0])] as const;
  if (!labelled) {
    context.fillStyle = accent;
    const bar = (start: number, stop: number, [first, last]: Range, size: number) => {
      const [from, to] = [Math.max(start, first), Math.min(stop, last)];
      return [(from - first) * size, Math.max(0, to - from) * size] as const;
    };
    for (const [, start, stop] of outline.keys.marks) {
      const [x, length] = bar(start, stop, columns, cell[0]);
      context.fillRect(left + x, 2, length, 4);
    }
    for (const [, start, stop] of outline.queries.marks) {
      const [y, length] = bar(start, stop, rows, cell[1]);
      context.fillRect(2, top + y, 4, length);
    }
    return;
  }
  context.fillStyle = ink;
  context.font = `${Math.min(...cell) < 12 ? 10 : 11}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const [unit, middle] of unitMiddles(queries, rows)) {
    context.fillText(queries.label(unit, 11), left - 6, top + (middle - rows[0]) * cell[1]);
  }
  context.textAlign = "left";
  for (const [unit, middle] of unitMiddles(keys, columns)) {
    context.save();
    context.translate(left + (middle - columns[0]) * cell[0], top - 5);
    context.rotate(-Math.PI / 2);
    context.fillText(keys.label(unit, 9), 0, 0);
    context.restore();
  }
}

/** Returns the units of a range of tokens, with the middle of the part of each unitMiddles it. */
function unitMiddles(units: Units, [start, stop]: Range): [unit: number, middle: number][] {
  const [first, last] = [units.of[start]!, units.of[stop - 1]!];
  return Array.from({ length: last - first + 1 }, (_, at) => {
    const [from, to] = units.tokens(first + at);
    return [first + at, (Math.max(from, start) + Math.min(to, stop)) / 2];
  });
}
