/** Layout of a graph without a worker, for exports: a file has no other files to load. */
import type { Drawing, LayoutRequest } from "../model/graph";
import { dagreLayout } from "./dagre_layout";

export function layOut(request: LayoutRequest, signal: AbortSignal): Promise<Drawing> {
  return new Promise((resolve) => setTimeout(() => !signal.aborted && resolve(dagreLayout(request)), 0));
}
