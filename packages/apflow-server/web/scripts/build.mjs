/** Builds the page and the file of exports into the Python package, and checks their size. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildInto } from "./build_into.mjs";
import { copyFiles, STATIC } from "./static_files.mjs";

const folder = await mkdtemp(join(tmpdir(), "apflow-page-"));
try {
  await buildInto(folder);
  await copyFiles(folder, STATIC);
} finally {
  await rm(folder, { recursive: true });
}
