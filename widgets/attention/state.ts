// The view's settings, synced with Python and with every other view of the same widget.

import type { Comparand, InitialAnswer, MeasureVersions, SharedPositions, Range, Scale } from "../shared/protocol";
import type { Contents, Outline, Selection } from "./source";

export interface State extends Selection {
  token: number | null;
  key: number | null;
  window: [number, number, number, number] | null;
  words: boolean;
  measure: string | null;
  measured: MeasureVersions;
  stack: string;
  comparand: Comparand;
  scale: Scale;
}

/** All synced traits. */
interface Synced extends State {
  _initial_answers: InitialAnswer[] | null; // while Python displays the view
}

/** The part of anywidget's model that is used here. */
export interface Model {
  get<Name extends keyof Synced>(name: Name): Synced[Name];
  set<Name extends keyof State>(name: Name, value: State[Name]): void;
  save_changes(): void;
  on(event: string, callback: () => void): void;
  off(event: string, callback: () => void): void;
}

export const TRAITS = [
  "layer", "head", "reduce", "token", "key", "window", "mask_sink", "words", "measure", "measured", "stack",
  "comparand", "scale",
] as const;

export function read(model: Model): State {
  return Object.fromEntries(TRAITS.map((name) => [name, model.get(name)])) as unknown as State;
}

/** Limits the state to a source, which may have fewer layers, heads and tokens. */
export function fit(state: State, { layers, heads, queries, keys }: Outline): State {
  const [rows, columns] = [queries.tokens.length, keys.tokens.length];
  const nearest = layers.reduce((best, layer) =>
    Math.abs(layer - state.layer) < Math.abs(best - state.layer) ? layer : best,
  );
  const window = state.window;
  return {
    ...state,
    layer: nearest,
    head: Math.min(state.head, heads - 1),
    token: state.token !== null && state.token < rows ? state.token : null,
    key: state.key !== null && state.key < columns ? state.key : null,
    window: window && window[1] <= rows && window[3] <= columns ? window : null,
  };
}

export const selectionOf = ({ layer, head, reduce, mask_sink }: State): Selection => ({
  layer,
  head,
  reduce,
  mask_sink,
});

/** Returns the queries and keys in the matrix; null for all. */
export function windowOf({ window }: State): [rows: Range, columns: Range] | null {
  return window && [[window[0], window[1]], [window[2], window[3]]];
}

/** Maps the state of one comparand to another, by the nearest tokens that both have. */
export function mapState(state: State, from: Outline, to: Outline, difference: Outline): State {
  const across = (places: SharedPositions) => (place: number) => mapPosition(place, from, to, places);
  const row = across(difference.places!);
  const column = across(difference.key_places ?? difference.places!);
  const { token, key, window } = state;
  return {
    ...state,
    token: token === null ? null : row(token),
    key: key === null ? null : column(key),
    window: window && [
      row(window[0]),
      row(window[1] - 1) + 1,
      column(window[2]),
      column(window[3] - 1) + 1,
    ],
  };
}

function mapPosition(place: number, from: Outline, to: Outline, [a, b]: SharedPositions): number {
  const index = (outline: Outline) => (outline.comparand === "a" ? a : b);
  const common = from.signed ? place : nearestIndex(index(from), place);
  return to.signed ? common : index(to)[common]!;
}

function nearestIndex(ascending: number[], value: number): number {
  let best = 0;
  ascending.forEach((each, at) => {
    if (Math.abs(each - value) < Math.abs(ascending[best]! - value)) best = at;
  });
  return best;
}

export const isCompared = ({ comparands }: Contents): boolean => comparands.length > 1;
