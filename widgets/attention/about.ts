// What is on screen, said in words.

import { h } from "../shared/dom";
import { label, percent, shares } from "./layout";
import { aboutOf, rank, titleOf } from "./measures";
import type { Head, Outline, Picture } from "./source";
import type { State } from "./state";

const NAMES = { yours: "your text", rest: "other tokens", sink: "sink" } as const;
const LISTED = 6; // heads

/** Which head this is, why it was opened, and what its sink takes. */
export function aboutHead(state: State, outline: Outline, { sink_share }: Picture): HTMLElement[] {
  const { layer, head, reduce, token, mask_sink } = state;
  const sentences: (string | false)[] = [
    reduce === "head"
      ? `Layer ${layer}, head ${head}.`
      : `Layer ${layer}, the ${reduce === "mean" ? "mean" : "largest weight"} of its ${outline.heads} heads.`,
  ];
  if (outline.signed) {
    sentences.push(
      "Each weight of b less that of a, over the tokens that both have: orange where b looks more, purple where it looks less.",
    );
  } else {
    const { share, ...first } = outline.opened!;
    const opened = layer === first.layer && head === first.head && token === first.token;
    const aim = outline.queries.marks.length ? "your text" : "the words";
    const sink = outline.sink === null ? "" : `“${label(outline.sink, outline.keys)}”`;
    sentences.push(
      opened &&
        reduce === "head" &&
        share > 0.005 &&
        `The view opens here because, in the upper half of the layers, this head puts the most weight (${percent(share)}) from the ${first.token === 0 ? "first" : "last"} token on ${aim}${outline.queries === outline.keys ? ", that token, its neighbours and the sink left out" : ""}.`,
      sink_share !== null &&
        `Averaged over its queries, ${percent(sink_share)} of its weight rests on ${sink}: a sink, which takes weight in most heads whatever the text says. ` +
          (mask_sink
            ? "It is masked: that part is removed, and the rest of each row made whole again."
            : "The colour scales are set by the other tokens: full is the largest weight among them."),
      outline.sampled !== null && `The small pictures are of ${outline.sampled} sampled rows.`,
    );
  }
  return sentences.filter((sentence) => sentence !== false).map((text) => h("p", {}, text));
}

/** The heads that a measure is largest in, each to be opened. */
export function ranked(
  measure: string,
  values: Float32Array[],
  { layers }: Outline,
  select: (head: Head) => void,
): HTMLElement[] {
  const said = `Sorted by ${titleOf(measure)}: ${aboutOf(measure)}.`;
  const buttons = rank(measure, values)
    .top(LISTED)
    .map(({ layer, head, text }) => {
      const title = `layer ${layers[layer]}, head ${head}`;
      const made = h("button", { type: "button", title }, `L${layers[layer]} H${head} ${text}`);
      made.addEventListener("click", () => select({ layer: layers[layer]!, head }));
      return made;
    });
  if (!buttons.length) return [h("p", {}, `${said} This text has nothing to measure it on.`)];
  return [
    h("p", {}, `${said} Largest in`),
    h("p", { class: "ranked" }, ...buttons),
  ];
}

/** Where one query's weight goes. */
export function flow(
  row: Float32Array,
  query: string,
  outline: Outline,
  removed: number | null,
): (Node | string)[] {
  const parts = shares(row, outline.keys, removed === null ? outline.sink : null);
  return [
    h("span", { class: "from" }, outline.signed ? "Changed from " : "From ", h("b", {}, query), " to"),
    ...parts.map(({ name, weight }) => {
      const width = Math.max(2, 120 * Math.min(1, Math.abs(weight)));
      const swatch = h("span", { class: `swatch ${name}`, style: `width:${width}px` });
      return h("span", { class: "part" }, swatch, `${NAMES[name]} ${percent(weight)}`);
    }),
    removed === null
      ? ""
      : h("span", { class: "part" }, h("span", { class: "swatch sink", style: `width:${Math.max(2, 120 * removed)}px` }), `${percent(removed)} on the sink was removed`),
  ];
}
