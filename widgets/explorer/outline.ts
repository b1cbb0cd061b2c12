// What is known of the frame, and how numbers are written.

import type { Kernel as AnyKernel } from "../shared/kernel";
import type { ExplorerAnswers, ExplorerRequest } from "../shared/protocol";

export type { Counts, ExplorerOutline as Outline, OutlineColumn as Column, RowWindow } from "../shared/protocol";

export type Kernel = AnyKernel<ExplorerRequest, ExplorerAnswers>;

export const count = (number: number): string => number.toLocaleString("en");
