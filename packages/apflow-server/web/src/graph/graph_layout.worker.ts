/** Lays out graphs apart from the page, which does not wait for it. */
import type { Drawing, LayoutRequest } from "../model/graph";
import { dagreLayout } from "./dagre_layout";

const scope = globalThis as unknown as {
  postMessage(message: Drawing): void;
  onmessage: ((message: MessageEvent<LayoutRequest>) => void) | null;
};

scope.onmessage = ({ data }) => scope.postMessage(dagreLayout(data));
