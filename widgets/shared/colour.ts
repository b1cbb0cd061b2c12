// Sequential colour maps: lightness changes evenly from no weight to full colour, so that they read
// the same with colour-blindness. After "mako" of seaborn (BSD). The light map, which Python uses
// too, is in nbllm/widgets/protocol/.

import { DECADES, type Scale } from "./protocol";

export type RGB = readonly [number, number, number];

export const DARK = [
  "#1b1b24", "#231f30", "#35264c", "#403a75", "#3d5296", "#366da0",
  "#3487a6", "#35a1ab", "#43bbad", "#6cd3ad", "#ade3c0", "#def5e5",
];
// Diverging colour maps, whose ends differ in blue, which colour-blind readers see too. After "PuOr"
// of ColorBrewer (Apache-2.0).
export const LIGHT_DIVERGING = [
  "#542788", "#8073ac", "#b2abd2", "#d8daeb", "#f7f7f7", "#fee0b6", "#fdb863", "#e08214", "#b35806",
];
export const DARK_DIVERGING = [
  "#d8daeb", "#b2abd2", "#8073ac", "#463a6b", "#1b1b24", "#5c3a10", "#b3640e", "#f0a13f", "#fee0b6",
];

const LEVELS = 256;

export const parseHex = (code: string): RGB => [
  parseInt(code.slice(1, 3), 16),
  parseInt(code.slice(3, 5), 16),
  parseInt(code.slice(5, 7), 16),
];

/** Returns 256 colours, interpolated between evenly spaced stops. */
export function ramp(stops: readonly string[]): RGB[] {
  const colours = stops.map(parseHex);
  return Array.from({ length: LEVELS }, (_, level) => {
    const place = (level / (LEVELS - 1)) * (colours.length - 1);
    const left = Math.min(Math.floor(place), colours.length - 2);
    const [from, to] = [colours[left]!, colours[left + 1]!];
    const mix = (part: 0 | 1 | 2) => Math.round(from[part] + (to[part] - from[part]) * (place - left));
    return [mix(0), mix(1), mix(2)] as const;
  });
}

// nbllm/attention/views/colour_levels.py has the same scales and codes.

/** Maps a share of the largest weight to a position from 0 (no colour) to 1 (full colour). */
const position = (share: number, scale: Scale): number => {
  const within = Math.min(Math.max(share, 0), 1);
  return scale === "sqrt" ? Math.sqrt(within) : Math.max(0, 1 + Math.log10(within) / DECADES);
};

/** Returns the colour level of a weight, 0–255; full from `full` on. */
export const level = (weight: number, full: number, scale: Scale = "sqrt"): number =>
  full <= 0 ? 0 : Math.round((LEVELS - 1) * position(weight / full, scale));

/** Returns the colour level of a difference, 1–255: 128 is none; full from ±`full` on. */
export const signedLevel = (weight: number, full: number, scale: Scale = "sqrt"): number =>
  128 + Math.sign(weight) * Math.round((LEVELS / 2 - 1) * position(Math.abs(weight) / full, scale));

/** Returns the weights of no colour, half colour and full colour. */
export function ticks(full: number, scale: Scale): [least: number, half: number, full: number] {
  return scale === "sqrt" ? [0, full / 4, full] : [full / 10 ** DECADES, full / 10 ** (DECADES / 2), full];
}

/** Decodes the weights of a pooled picture, one byte each. */
export function weightsOf(codes: Int8Array | Uint8Array, full: number): Float32Array {
  const most = codes instanceof Int8Array ? 127 : 255;
  const shares = Float32Array.from({ length: most + 1 }, (_, code) =>
    code === 0 ? 0 : full * 10 ** (DECADES * ((code - 1) / (most - 1) - 1)),
  );
  return Float32Array.from(codes, (code) => Math.sign(code) * shares[Math.abs(code)]!);
}

/** Returns the relative luminance of a colour (WCAG 2). */
export function luminance(colour: RGB): number {
  const [red, green, blue] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Returns black or white, whichever contrasts more with the background: at least 4.5:1. */
export const textColour = (background: RGB): string => (luminance(background) > 0.179 ? "#000" : "#fff");

export const css = ([red, green, blue]: RGB): string => `rgb(${red} ${green} ${blue})`;
