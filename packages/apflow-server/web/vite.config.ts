import { defineConfig } from "vite";
import { lessCode } from "./scripts/less_code.mjs";

const server = process.env["APFLOW_API_URL"] ?? "http://127.0.0.1:8000";
const toServer = {
  target: server,
  // The server refuses requests of pages of other origins, and this is one while it is developed.
  configure: (proxy: { on(event: "proxyReq", does: (request: { removeHeader(name: string): void }) => void): void }) =>
    proxy.on("proxyReq", (request) => request.removeHeader("origin")),
};

export default defineConfig({
  base: "./",
  plugins: [lessCode()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    cssTarget: ["chrome123", "firefox128", "safari17.5"], // the first with light-dark()
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    license: { fileName: "licences.txt" },
  },
  worker: { format: "es" },
  server: { proxy: { "/tasks": toServer, "/follow": toServer, "/tree-file": { ...toServer, rewrite: (path: string) => `/ui${path}` }, "/session": { ...toServer, rewrite: (path: string) => `/ui${path}` } } },
  test: { include: ["tests/unit/**/*.test.ts"], environment: "node" },
} as Parameters<typeof defineConfig>[0]);
