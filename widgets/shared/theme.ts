// Light or dark, as it looks: canvases cannot follow CSS variables by themselves.

import { DARK, LIGHT, luminance, ramp, type RGB } from "./colour";

export interface Theme {
  dark: boolean;
  map: RGB[];
}

const MAPS = { light: ramp(LIGHT), dark: ramp(DARK) };

/** The theme of what the element stands on, read from its own background. */
export function themeOf(element: HTMLElement): Theme {
  const parts = getComputedStyle(element).backgroundColor.match(/[\d.]+/g)?.map(Number);
  const [red = 255, green = 255, blue = 255, alpha = 1] = parts ?? [];
  const dark = alpha > 0 && luminance([red, green, blue]) < 0.2;
  return { dark, map: dark ? MAPS.dark : MAPS.light };
}

/** Calls back when the theme may have changed; returns the function that stops it. */
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
