/** Fails if the committed build is not what the sources give. */
import { withBuild } from "./with_build.mjs";
import { readFiles, STATIC } from "./static_files.mjs";

await withBuild(async (folder) => {
  const [built, committed] = await Promise.all([readFiles(folder), readFiles(STATIC)]);
  const names = new Set([...built.keys(), ...committed.keys()]);
  const stale = [...names].filter((name) => built.get(name)?.equals(committed.get(name) ?? Buffer.alloc(0)) !== true);
  if (stale.length === 0) return;
  console.error(`The committed build is out of date: ${stale.sort().join(", ")}\nRun: hatch run web:build`);
  process.exitCode = 1;
});
