// The colour bar below a matrix, with what its colours mean.

import { css, ticks } from "../shared/colour";
import { h } from "../shared/dom";
import { scaleOf, type Theme } from "../shared/theme";
import { label, percent, weightText } from "./layout";
import type { Outline, Picture, Selection } from "./source";

interface Shown {
  selection: Selection;
  picture: Picture;
  words: boolean; // whole words are shown
  joins: boolean; // and the matrix has a pixel per token, so their pieces are joined
  full: number; // weight of full colour
}

export function legend(outline: Outline, { selection, picture, words, joins, full }: Shown, theme: Theme) {
  const { map } = scaleOf(theme, outline.signed, 1);
  const { scale } = theme;
  const gradient = [0, 0.25, 0.5, 0.75, 1].map((share) => css(map[Math.round(share * 255)]!));
  const [least, half, most] = ticks(full, scale).map((weight) => weightText(weight)) as [string, string, string];
  const name = outline.sink === null ? "" : `“${label(outline.sink, outline.keys)}”`;
  const sink = !name ? "" : selection.mask_sink ? `; ${name} masked` : `, ${name} left aside`;
  const removed =
    selection.mask_sink && picture.sink_share !== null && !outline.signed
      ? `: ${percent(picture.sink_share)} of the weight removed, each row made whole again`
      : "";
  const bar = h("span", { class: "ramp", style: `background:linear-gradient(90deg,${gradient})` });
  const kind = scale === "log" ? "logarithmic" : "square-root";
  return [
    outline.signed ? `−${most} (less)` : scale === "log" ? `${least} and less` : "0",
    bar,
    outline.signed ? `+${most} (more)` : most,
    ` (${kind} scale, half colour at ${half}, full at the largest${sink}${removed})`,
    picture.sampled ? " Sampled: one row stands for each row of pixels." : "",
    joins
      ? " The pieces of a word are joined: summed over keys, averaged over queries."
      : words
        ? " A pixel is about a word; nearer, their pieces are joined."
        : "",
  ];
}
