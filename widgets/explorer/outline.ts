// What the Python half says of the frame, and of a window of its rows.

export type Role =
  | "text" | "answer" | "truth" | "score" | "error" | "probability" | "field" | "run" | "other";

export interface Column {
  name: string;
  role: Role;
  number: boolean;
}

export interface Outline {
  output: string;
  verb: string;
  size: number;
  index: string; // what the rows are named by
  columns: Column[];
  hidden: number;
  labels: string[]; // that answers are filtered by
  choices: string[]; // that a row can be corrected to
  truths: string[];
  truth: string | null;
  scored: boolean;
  failed: number;
  unasked: number;
  wrong: number;
}

export interface Window {
  start: number;
  total: number; // rows that the query leaves
  rows: number[]; // their positions in the frame
  index: string[];
  cells: (string | null)[][]; // by column
  corrections: (string | null)[];
  wrong: boolean[];
  failed: boolean[];
}

export interface Counts {
  labels?: { names: string[]; all: number[]; shown: number[] };
  scores?: { edges: number[]; all: number[]; shown: number[] };
  confusion?: { truths: string[]; answers: string[]; counts: number[][] };
}

export interface Whole {
  row: number;
  index: string;
  texts: { name: string; role: Role; text: string }[];
  probabilities: [string, number][];
  answer: string | null;
  truth: string | null;
}

export const count = (number: number): string => number.toLocaleString("en");
