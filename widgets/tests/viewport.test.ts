import { expect, test } from "vitest";

import type { Picture } from "../attention/source";
import { indexOf, place, shrunk } from "../attention/plot";
import { block } from "../attention/layout";
import { pan, panTo, zoom } from "../attention/viewport";
import type { Range } from "../shared/protocol";

const WHOLE: [Range, Range] = [[0, 100], [0, 60]];
const SIZE: [number, number] = [100, 60];

test("zooming keeps what is pointed at in its place", () => {
  const near = zoom(WHOLE, SIZE, 0.5, [80, 30])!;
  expect([near[1] - near[0], near[3] - near[2]]).toEqual([50, 30]);
  const share = (80.5 - near[0]) / 50;
  expect(share).toBeCloseTo(0.805, 1);
});

test("zooming stops at the matrix and at a few tokens", () => {
  expect(zoom([[10, 60], [0, 60]], SIZE, 4, [20, 20])).toBeNull();
  const nearest = zoom([[10, 18], [10, 18]], SIZE, 0.1, [12, 12])!;
  expect([nearest[1] - nearest[0], nearest[3] - nearest[2]]).toEqual([8, 8]);
  expect(zoom([[0, 3], [0, 2]], [3, 2], 0.5, [1, 1])).toBeNull();
});

test("panning stays within, and moves no further than needed", () => {
  const window: [Range, Range] = [[10, 30], [0, 20]];
  expect(pan(window, SIZE, [5, 7])).toEqual([15, 35, 7, 27]);
  expect(pan(window, SIZE, [-50, 500])).toEqual([0, 20, 40, 60]);
  expect(panTo(window, SIZE, [30, 5])).toEqual([11, 31, 0, 20]);
  expect(panTo(window, SIZE, [9, 25])).toEqual([9, 29, 6, 26]);
});

test("a token is found in the block that covers it", () => {
  for (const [side, range] of [[3, [0, 10]], [7, [5, 105]], [512, [0, 4096]]] as [number, Range][]) {
    for (let index = 0; index < side; index++) {
      const [start, stop] = block(index, side, range);
      expect(indexOf(start, side, range)).toBe(index);
      expect(indexOf(stop - 1, side, range)).toBe(index);
    }
  }
});

test("a picture larger than the screen is shrunk by its largest, sign kept", () => {
  const picture: Picture = {
    rows: [0, 4], columns: [0, 2], height: 4, width: 2, exact: true, sampled: false,
    full: 1, sink_share: null,
    weights: new Float32Array([0.2, 0, 0.4, -0.8, 0, 0, 0, 0.6]),
  };
  const small = shrunk(picture, [2, 1]);
  expect([...small.weights].map((weight) => Math.round(weight * 100))).toEqual([-80, 60]);
  expect(shrunk(picture, [4, 2])).toBe(picture);
});

test("tokens are named where there is room, and a cell is never huge", () => {
  expect(place([0, 20], [0, 20], 420).labelled).toBe(true);
  expect(place([0, 200], [0, 200], 420).labelled).toBe(false);
  expect(place([0, 1], [0, 1], 420).width).toBeLessThan(50);
  const flat = place([0, 10], [0, 400], 420);
  expect(flat.height).toBeGreaterThan(50);
});
