// The types that the explorer's modules share.

import type { Kernel as AnyKernel } from "../shared/kernel";
import type { ExplorerAnswers, ExplorerRequest } from "../shared/protocol";

export type { Counts, ExplorerOutline as Outline, OutlineColumn as Column, RowWindow } from "../shared/protocol";

export type Kernel = AnyKernel<ExplorerRequest, ExplorerAnswers>;
