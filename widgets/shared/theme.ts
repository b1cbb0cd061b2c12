// The theme, for canvases, which cannot use CSS variables.

import {
  DARK, DARK_DIVERGING, LIGHT_DIVERGING, level, luminance, ramp, type RGB, signedLevel,
} from "./colour";
import { LIGHT_COLOURS, type Scale } from "./protocol";

export interface Theme {
  dark: boolean;
  map: RGB[];
  diverging: RGB[];
  scale: Scale; // of weights to colours
}

const MAPS = {
  light: { map: ramp(LIGHT_COLOURS), diverging: ramp(LIGHT_DIVERGING) },
  dark: { map: ramp(DARK), diverging: ramp(DARK_DIVERGING) },
};

/** Returns the theme of an element, from its background colour. */
export function themeOf(element: HTMLElement, scale: Scale = "sqrt"): Theme {
  const parts = getComputedStyle(element).backgroundColor.match(/[\d.]+/g)?.map(Number);
  const [red = 255, green = 255, blue = 255, alpha = 1] = parts ?? [];
  const dark = alpha > 0 && luminance([red, green, blue]) < 0.2;
  return { dark, scale, ...MAPS[dark ? "dark" : "light"] };
}

/** Returns the colour map for weights or differences, and the function from a weight to its level. */
export function scaleOf(theme: Theme, signed: boolean, full: number) {
  return signed
    ? { map: theme.diverging, none: 128, level: (weight: number) => signedLevel(weight, full, theme.scale) }
    : { map: theme.map, none: 0, level: (weight: number) => level(weight, full, theme.scale) };
}

/** Calls back when the theme may have changed; returns a function that stops this. */
export function onTheme(changed: () => void): () => void {
  let timer = 0;
  const later = () => {
    requestAnimationFrame(changed);
    clearTimeout(timer);
    timer = window.setTimeout(changed, 300); // the new style sheet may load after the attribute
  };
  const observer = new MutationObserver(later);
  observer.observe(document.body, { attributes: true });
  observer.observe(document.documentElement, { attributes: true });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", later);
  return () => {
    observer.disconnect();
    media.removeEventListener("change", later);
    clearTimeout(timer);
  };
}
