import { expect, test } from "vitest";

import { circleIn } from "../circles.mjs";

const modules = (imports) => new Map(Object.entries(imports));

test("a circle is found wherever it begins, however long it is", () => {
  expect(circleIn(modules({ x: ["a"], a: ["b"], b: ["c"], c: ["a"] }))).toEqual(["a", "b", "c", "a"]);
  expect(circleIn(modules({ a: ["a"] }))).toEqual(["a", "a"]);
});

test("what two modules both import is no circle", () => {
  expect(circleIn(modules({ a: ["b", "c"], b: ["d"], c: ["d"], d: ["outside"] }))).toBeUndefined();
});
