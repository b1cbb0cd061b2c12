// How far something is, in the words that all of nbllm's displays use for it.

/** Whole per cent of a share from 0 to 1; all only when it is all. */
export const wholePercent = (share: number): number =>
  share < 1 ? Math.min(Math.floor(share * 100 + 1e-9), 99) : 100;
