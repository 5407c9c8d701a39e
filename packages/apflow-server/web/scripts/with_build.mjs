/** The built page in a folder that exists while it is used. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "vite";
import { checkSize } from "./check_size.mjs";
import { readFiles, WEB } from "./static_files.mjs";

/** Build the page, and use its folder. Fails if a part of the page is too large. */
export async function withBuild(use) {
  const folder = await mkdtemp(join(tmpdir(), "apflow-page-"));
  try {
    await build({ root: WEB, configFile: join(WEB, "vite.config.ts"), logLevel: "warn", build: { outDir: folder, emptyOutDir: true } });
    await build({ root: WEB, configFile: join(WEB, "vite.export.config.ts"), logLevel: "warn", build: { outDir: folder } });
    checkSize(await readFiles(folder));
    await use(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}
