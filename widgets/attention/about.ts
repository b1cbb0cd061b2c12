// Describes the selected head, and where the weight of the selected query goes.

import { h } from "../shared/dom";
import { label, percent, shares } from "./layout";
import { aboutOf, rank, titleOf } from "./measures";
import type { Head, Outline, Picture } from "./source";
import type { State } from "./state";

const NAMES = { yours: "your text", rest: "other tokens", sink: "sink" } as const;
const LISTED = 6; // heads

/** Describes the selected head: why the view opened at it, and how much weight its sink takes. */
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

/** Returns buttons that select the heads with the largest values of a measure. */
export function rankedHeads(
  measure: string,
  values: Float32Array[],
  { layers }: Outline,
  select: (head: Head) => void,
): HTMLElement[] {
  const heading = `Sorted by ${titleOf(measure)}: ${aboutOf(measure)}.`;
  const buttons = rank(measure, values)
    .top(LISTED)
    .map(({ layer, head, text }) => {
      const title = `layer ${layers[layer]}, head ${head}`;
      const button = h("button", { type: "button", title }, `L${layers[layer]} H${head} ${text}`);
      button.addEventListener("click", () => select({ layer: layers[layer]!, head }));
      return button;
    });
  if (!buttons.length) return [h("p", {}, `${heading} This text has nothing to measure it on.`)];
  return [
    h("p", {}, `${heading} Largest in`),
    h("p", { class: "ranked" }, ...buttons),
  ];
}

/** Shows where one query's weight goes; `removed` is the weight that a masked sink had. */
export function flow(
  row: Float32Array,
  query: string,
  outline: Outline,
  removed: number | null,
): (Node | string)[] {
  const parts = shares(row, outline.keys, removed === null ? outline.sink : null);
  const part = (kind: string, weight: number, text: string) => {
    const width = Math.max(2, 120 * Math.min(1, Math.abs(weight)));
    return h("span", { class: "part" }, h("span", { class: `swatch ${kind}`, style: `width:${width}px` }), text);
  };
  return [
    h("span", { class: "from" }, outline.signed ? "Changed from " : "From ", h("b", {}, query), " to"),
    ...parts.map(({ name, weight }) => part(name, weight, `${NAMES[name]} ${percent(weight)}`)),
    ...(removed === null ? [] : [part("sink", removed, `${percent(removed)} on the sink was removed`)]),
  ];
}
