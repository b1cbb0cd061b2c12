// The filter and the sort: synced with Python trait by trait, and sent whole with each request.

import type { QueryFields as Query } from "../shared/protocol";

export type { Query };

export interface Traits extends Query {
  rows: number[]; // positions of the selected rows
  edits: number; // rises with each correction
}

/** The part of anywidget's model that is used here. */
export interface Model {
  get<Name extends keyof Traits>(name: Name): Traits[Name];
  set<Name extends keyof Traits>(name: Name, value: Traits[Name]): void;
  save_changes(): void;
  on(event: string, changed: () => void): void;
  off(event: string, changed: () => void): void;
}

export const EMPTY: Query = {
  text: "", labels: [], truths: [], score: null, only: null, sort: null, descending: false,
};
export const NAMES = Object.keys(EMPTY) as (keyof Query)[];

export function read(model: Model): Query {
  const query: Record<string, unknown> = {};
  for (const name of NAMES) query[name] = model.get(name);
  return query as unknown as Query;
}

/** Returns whether a query lets every row through. */
export const isOpen = (query: Query): boolean =>
  !query.text && !query.labels.length && !query.truths.length && !query.score && !query.only;

/** Returns the sort after a click on a column's heading: ascending, descending, then none. */
export function sortedBy(query: Query, column: string): Pick<Query, "sort" | "descending"> {
  if (query.sort !== column) return { sort: column, descending: false };
  return query.descending ? { sort: null, descending: false } : { sort: column, descending: true };
}
