import { expect, test } from "vitest";

import {
  DARK, DARK_DIVERGING, level, LIGHT_DIVERGING, luminance, parseHex, ramp, signedLevel, textColour, ticks,
} from "../shared/colour";
import { LIGHT_COLOURS } from "../shared/protocol";

test("on the logarithmic scale each of four decades has a quarter of the levels", () => {
  const shares = [0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 3];
  expect(shares.map((share) => level(0.3 * share, 0.3, "log"))).toEqual([0, 0, 0, 64, 128, 191, 255, 255]);
  expect(shares.map((share) => signedLevel(-0.3 * share, 0.3, "log"))).toEqual([128, 128, 128, 96, 64, 33, 1, 1]);
  for (const scale of ["sqrt", "log"] as const) {
    const [least, half, full] = ticks(0.3, scale);
    expect([least, half, full].map((weight) => level(weight, 0.3, scale))).toEqual([0, 128, 255]);
  }
});

test("weights that differ thirtyfold differ in colour, up to the largest", () => {
  for (const scale of ["sqrt", "log"] as const) {
    expect(level(0.997, 0.997, scale) - level(0.033, 0.997, scale)).toBeGreaterThan(80);
  }
});

test("levels follow the square root and stop at full colour", () => {
  expect([0, 0.01, 0.04, 0.16, 0.9].map((weight) => level(weight, 0.16))).toEqual([
    0, 64, 128, 255, 255,
  ]);
  expect(level(0.5, 0)).toBe(0);
});

test.each([
  ["light", LIGHT_COLOURS, -1],
  ["dark", DARK, 1],
] as const)("the %s map changes lightness in one direction", (_, stops, direction) => {
  const light = ramp(stops).map(luminance);
  expect(light).toHaveLength(256);
  light.slice(1).forEach((value, at) => {
    expect((value - light[at]!) * direction).toBeGreaterThanOrEqual(-1e-3);
  });
});

test("differences go either way from the middle", () => {
  expect([-0.9, -0.16, -0.04, 0, 0.04, 0.16].map((weight) => signedLevel(weight, 0.16))).toEqual([
    1, 1, 64, 128, 192, 255,
  ]);
});

test.each([
  ["light", LIGHT_DIVERGING, -1],
  ["dark", DARK_DIVERGING, 1],
] as const)("the %s map of differences changes lightness away from its middle", (_, stops, direction) => {
  const light = ramp(stops).map(luminance);
  for (let away = 1; away < 128; away++) {
    expect((light[128 + away]! - light[127 + away]!) * direction).toBeGreaterThanOrEqual(-2e-3);
    expect((light[127 - away]! - light[128 - away]!) * direction).toBeGreaterThanOrEqual(-2e-3);
  }
});

test.each([LIGHT_COLOURS, DARK, LIGHT_DIVERGING, DARK_DIVERGING].flatMap(ramp).filter((_, at) => at % 16 === 0))(
  "ink on (%i, %i, %i) can be read",
  (...colour) => {
    const [paper, text] = [luminance(colour), textColour(colour) === "#000" ? 0 : 1];
    const contrast = (Math.max(paper, text) + 0.05) / (Math.min(paper, text) + 0.05);
    expect(contrast).toBeGreaterThanOrEqual(4.5);
  },
);

test("hex codes", () => {
  expect(parseHex("#35a1ab")).toEqual([53, 161, 171]);
});
