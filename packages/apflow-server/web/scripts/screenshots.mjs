/** Pictures of the page for the documents: `node scripts/screenshots.mjs [FOLDER]`. */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { openPage, startBrowser } from "../tests/journeys/browser.mjs";
import { fill } from "../tests/journeys/sample.mjs";
import { startServer } from "../tests/journeys/server.mjs";
import { WEB } from "./static_files.mjs";

const folder = resolve(process.argv[2] ?? join(WEB, "../../../docs/pictures"));
const server = await startServer();
const browser = await startBrowser();

const pictures = (ids) => [
  { name: "runs", place: "#/runs", ready: ".run-link" },
  { name: "run", place: `#/runs/${ids.completed}`, ready: ".bar-retry" },
  { name: "task", place: `#/runs/${ids.failed}/task/${ids.failed}-south-check`, ready: ".why li", scheme: "dark" },
  { name: "graph", place: `#/runs/${ids.completed}/graph`, ready: ".graph-box" },
  { name: "approval", place: "#/approvals", ready: ".approval" },
  { name: "narrow", place: `#/runs/${ids.completed}`, ready: ".bar-retry", width: 390, height: 844 },
];

try {
  await mkdir(folder, { recursive: true });
  for (const { name, place, ready, width = 1280, height = 760, scheme = "light" } of pictures(await fill(server))) {
    const { page, context } = await openPage(browser, { width, height, scheme });
    page.setDefaultTimeout(120_000);
    await page.goto(`${server.url}ui/${place}`);
    await page.locator(ready).first().waitFor();
    await page.screenshot({ path: join(folder, `page-${name}.png`) });
    await context.close();
    console.log(join(folder, `page-${name}.png`));
  }
} finally {
  await browser.close();
  await server.close();
}
