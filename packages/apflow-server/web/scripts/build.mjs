/** Builds the page and the file of exports into the Python package, and checks their size. */
import { withBuild } from "./with_build.mjs";
import { copyFiles, STATIC } from "./static_files.mjs";

await withBuild((folder) => copyFiles(folder, STATIC));
