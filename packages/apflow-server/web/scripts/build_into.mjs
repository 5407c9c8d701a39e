/** Building the page into a folder. */
import { join } from "node:path";
import { build } from "vite";
import { checkSize } from "./check_size.mjs";
import { readFiles, WEB } from "./static_files.mjs";

/** Build the page into an empty folder. Fails if a part is too large. */
export async function buildInto(folder) {
  await build({ root: WEB, configFile: join(WEB, "vite.config.ts"), logLevel: "warn", build: { outDir: folder, emptyOutDir: true } });
  await build({ root: WEB, configFile: join(WEB, "vite.export.config.ts"), logLevel: "warn", build: { outDir: folder } });
  checkSize(await readFiles(folder));
}
