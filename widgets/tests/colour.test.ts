import { expect, test } from "vitest";

import { DARK, ink, level, LIGHT, luminance, parseHex, ramp } from "../shared/colour";

test("levels follow the square root and stop at full colour", () => {
  expect([0, 0.01, 0.04, 0.16, 0.9].map((weight) => level(weight, 0.16))).toEqual([
    0, 64, 128, 255, 255,
  ]);
  expect(level(0.5, 0)).toBe(0);
});

test.each([
  ["light", LIGHT, -1],
  ["dark", DARK, 1],
] as const)("the %s map changes lightness in one direction", (_, stops, direction) => {
  const light = ramp(stops).map(luminance);
  expect(light).toHaveLength(256);
  light.slice(1).forEach((value, at) => {
    expect((value - light[at]!) * direction).toBeGreaterThanOrEqual(-1e-3);
  });
});

test.each([...ramp(LIGHT), ...ramp(DARK)].filter((_, at) => at % 16 === 0))(
  "ink on (%i, %i, %i) can be read",
  (...colour) => {
    const [paper, text] = [luminance(colour), ink(colour) === "#000" ? 0 : 1];
    const contrast = (Math.max(paper, text) + 0.05) / (Math.min(paper, text) + 0.05);
    expect(contrast).toBeGreaterThanOrEqual(4.5);
  },
);

test("hex codes", () => {
  expect(parseHex("#35a1ab")).toEqual([53, 161, 171]);
});
