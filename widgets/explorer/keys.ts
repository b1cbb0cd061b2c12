// The key of each label: 1 to 9, then letters.

const KEYS = [..."123456789abcdefghijklmnopqrstuvwxyz"];

export const keysOf = (labels: string[]): Map<string, string> =>
  new Map(labels.slice(0, KEYS.length).map((label, place) => [KEYS[place]!, label]));
