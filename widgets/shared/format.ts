// Formats numbers for all of nbllm's displays.

export const formatNumber = (value: number): string => value.toLocaleString("en");

/** Returns a share from 0 to 1 in whole per cent; 100 only for 1. */
export const wholePercent = (share: number): number =>
  share < 1 ? Math.min(Math.floor(share * 100 + 1e-9), 99) : 100;

/** Formats seconds: 9 s, 2 min, 2 min 5 s, 1 h 3 min. `space` separates numbers and units. */
export function duration(seconds: number, space = " "): string {
  const total = Math.max(Math.round(seconds), 0);
  const minutes = Math.floor(total / 60);
  const parts =
    total < 60 ? [total, "s"]
    : total >= 3600 ? [Math.floor(minutes / 60), "h", minutes % 60, "min"]
    : total % 60 ? [minutes, "min", total % 60, "s"]
    : [minutes, "min"];
  return parts.join(space);
}
