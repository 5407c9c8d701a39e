import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import { inlineAll } from "./scripts/inline_all.mjs";
import { lessCode } from "./scripts/less_code.mjs";

const inPage = fileURLToPath(new URL("src/graph/layout_in_page.ts", import.meta.url));

/** The file of exports: everything in one document, which loads nothing. */
export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  resolve: { alias: [{ find: /.*\/layout_in_worker$/, replacement: inPage }] },
  plugins: [lessCode(), inlineAll()],
  build: {
    target: "es2022",
    cssTarget: ["chrome123", "firefox128", "safari17.5"], // the first with light-dark()
    modulePreload: false,
    cssCodeSplit: false,
    reportCompressedSize: false,
    emptyOutDir: false,
    rolldownOptions: { input: "export.html", output: { codeSplitting: false } },
  },
} as Parameters<typeof defineConfig>[0]);
