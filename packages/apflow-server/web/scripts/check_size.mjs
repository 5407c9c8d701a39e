/** The size of the page, as browsers load it. */
import { gzipSync } from "node:zlib";

const LIMIT = 60_000;
const EXPORT_LIMIT = 80_000; // with the graph
const GRAPH = /graph_layout|graph/i;

/** Print the size of each file, and fail if all that the page loads, without its graph, is more than the limit. */
export function checkSize(files) {
  let total = 0;
  for (const [name, content] of [...files].sort()) {
    const size = gzipSync(content, { level: 9 }).length;
    if (name === "export.html") {
      console.log(`${String(size).padStart(7)} B gzip  ${name}, of ${EXPORT_LIMIT}`);
      if (size > EXPORT_LIMIT) throw new Error(`${name} has ${size} bytes, more than ${EXPORT_LIMIT}.`);
      continue;
    }
    const isApart = GRAPH.test(name) || name === "licences.txt";
    if (!isApart) total += size;
    console.log(`${String(size).padStart(7)} B gzip  ${name}${isApart ? " (apart)" : ""}`);
  }
  console.log(`${String(total).padStart(7)} B gzip without the graph, of ${LIMIT}`);
  if (total > LIMIT) throw new Error(`The page has ${total} bytes, more than ${LIMIT}. Leave something out, or load it when it is needed.`);
}
