/** Pictures of the page for the documents: `node scripts/screenshots.mjs [FOLDER]`. Replaces those in the folder. */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { openPage, startBrowser } from "../tests/journeys/browser.mjs";
import { FILE_OF_TASKS, fill } from "../tests/journeys/sample.mjs";
import { startServer } from "../tests/journeys/server.mjs";
import { WEB } from "./static_files.mjs";

const PREFIX = "page-";
const QUALITY = 82; // of WebP, in percent: letters stay sharp
const SCALE = 1.5; // pixels of the picture for one of the page, for screens of high resolution
const TIMEOUT = 120_000; // milliseconds, on a busy machine

const folder = resolve(process.argv[2] ?? join(WEB, "../../../docs/pictures"));

/** What to show: a place of the page, what must be in it, and what to do there before. */
const picturesOf = (ids) => [
  { name: "runs", place: "#/runs", ready: ".run-link", height: 470 },
  { name: "run", place: `#/runs/${ids.completed}`, ready: ".bar-retry", height: 620 },
  { name: "task", place: `#/runs/${ids.failed}/task/${ids.failed}-south-check`, ready: ".why li", width: 1440, height: 780, scheme: "dark" },
  { name: "graph", place: `#/runs/${ids.completed}/graph`, ready: ".graph-box", height: 620 },
  { name: "new-run", place: "#/new", ready: ".plan", prepare: checkFile, height: 700 },
  { name: "schedules", place: "#/schedules", ready: ".last-run", height: 300 },
  { name: "approval", place: "#/approvals", ready: ".approval", height: 720 },
];

async function checkFile(page) {
  await page.getByRole("button", { name: "A file of tasks" }).click();
  await page.locator("#tasks").fill(FILE_OF_TASKS);
  await page.getByRole("button", { name: "Read" }).click();
  await page.getByLabel(/^shop/).fill("harbour");
  await page.getByRole("button", { name: "Check" }).click();
}

async function take(browser, root, { place, ready, prepare, width = 1280, height, scheme = "light" }) {
  const { page, context } = await openPage(browser, { width, height, scheme, deviceScaleFactor: SCALE });
  page.setDefaultTimeout(TIMEOUT);
  await page.goto(`${root}ui/${place}`);
  await prepare?.(page);
  await page.locator(ready).first().waitFor();
  const devtools = await context.newCDPSession(page);
  const { data } = await devtools.send("Page.captureScreenshot", { format: "webp", quality: QUALITY });
  await context.close();
  return Buffer.from(data, "base64");
}

async function removeOld() {
  await mkdir(folder, { recursive: true });
  const names = (await readdir(folder)).filter((name) => name.startsWith(PREFIX));
  await Promise.all(names.map((name) => rm(join(folder, name))));
}

const server = await startServer();
const browser = await startBrowser();
try {
  await removeOld();
  for (const picture of picturesOf(await fill(server))) {
    const file = join(folder, `${PREFIX}${picture.name}.webp`);
    const content = await take(browser, server.url, picture);
    await writeFile(file, content);
    console.log(`${String(content.length).padStart(7)} B  ${file}`);
  }
} finally {
  await browser.close();
  await server.close();
}
