/** Fails if the committed build is not what the sources give. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildInto } from "./build_into.mjs";
import { readFiles, STATIC } from "./static_files.mjs";

const folder = await mkdtemp(join(tmpdir(), "apflow-page-"));
try {
  await buildInto(folder);
  const [built, committed] = await Promise.all([readFiles(folder), readFiles(STATIC)]);
  const names = new Set([...built.keys(), ...committed.keys()]);
  const stale = [...names].filter((name) => built.get(name)?.equals(committed.get(name) ?? Buffer.alloc(0)) !== true);
  if (stale.length > 0) {
    console.error(`The committed build is out of date: ${stale.sort().join(", ")}\nRun: hatch run web:build`);
    process.exitCode = 1;
  }
} finally {
  await rm(folder, { recursive: true });
}
