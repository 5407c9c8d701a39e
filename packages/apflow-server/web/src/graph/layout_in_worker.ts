/** Layout of a graph in a worker. */
import type { Drawing, LayoutRequest } from "../model/graph";
import LayoutWorker from "./graph_layout.worker?worker";

/** Return the layout. If the signal is aborted, the work ends, and the layout never comes. */
export function layOut(request: LayoutRequest, signal: AbortSignal): Promise<Drawing> {
  return new Promise((resolve, reject) => {
    const worker = new LayoutWorker();
    signal.addEventListener("abort", () => worker.terminate(), { once: true });
    worker.onmessage = ({ data }: MessageEvent<Drawing>) => {
      worker.terminate();
      resolve(data);
    };
    worker.onerror = (event) => reject(new Error(event.message || "The graph could not be laid out."));
    worker.postMessage(request);
  });
}
