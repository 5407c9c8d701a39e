/** The file of an export, opened without a server. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { after, before, it } from "node:test";
import { checkAccessible } from "./accessible.mjs";
import { openPage, startBrowser } from "./browser.mjs";
import { HOSTILE, hostileTree } from "./hostile.mjs";
import { STATIC } from "../../scripts/static_files.mjs";

const AT = (seconds) => new Date(1_790_000_000_000 + seconds * 1000).toISOString();

let browser, folder;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "apflow-export-"));
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

function exported(task, at) {
  return {
    key: task.id, user_id: null, root_id: "hostile", parent_id: null, label: null, tags: [], status: at % 3 === 1 ? "failed" : "completed", priority: 2, dependencies: [], inputs: {}, params: {}, schemas: {}, policy: {},
    result: HOSTILE[at % 200], error: at % 3 === 1 ? HOSTILE[at % 200] : null, progress: 1, has_children: at === 0, attempts: at === 0 ? 0 : 1, created_at: AT(0), started_at: AT(at / 10), updated_at: AT(at), completed_at: AT(at / 10 + 3),
    original_task_id: null, has_copy: false, ...task,
  };
}

/** Write a file as the command line does: the run takes the place of `null`. */
async function write(name, document) {
  const page = await readFile(join(STATIC, "export.html"), "utf8");
  const empty = '<script type="application/json" id="run">null</script>';
  assert.equal(page.split(empty).length, 2);
  const json = JSON.stringify(document).replaceAll("<", "\\u003c");
  const file = join(folder, name);
  await writeFile(file, page.replace(empty, () => empty.replace("null", () => json)));
  return pathToFileURL(file).href;
}

it("shows a run with 200 hostile texts, its log, its graph and its attempts, and loads nothing", { timeout: 300_000 }, async () => {
  const tasks = hostileTree("hostile").map(exported);
  const document = {
    format: "apflow-run", version: 1, exported_at: AT(100), root_id: "hostile", tasks,
    attempts: { "hostile-1": [{ number: 1, started_at: AT(1), ended_at: AT(2), outcome: "failed", error: HOSTILE[2], error_type: "X", traceback: HOSTILE[4] }] },
    why: { "hostile-1": { task_id: "hostile-1", name: "x", key: "x", status: "completed", reasons: [HOSTILE[5]], advice: [HOSTILE[6]] } },
    logs: { "hostile-1": [{ at: AT(1), level: "ERROR", text: HOSTILE[7], attempt: 1 }] },
    cut: { "hostile-1": ["result"] },
  };
  const url = await write("hostile.html", document);
  const { page, errors } = await openPage(browser);
  const requests = [];
  page.on("request", (request) => request.url() === url || request.url().startsWith("data:") || requests.push(request.url()));
  await page.goto(url);
  await page.locator(".task-row").first().waitFor();
  await page.locator("#row-2").click();
  await page.locator(".why li").first().waitFor();
  assert.equal(await page.locator(".why li").first().textContent(), HOSTILE[5]);
  for (const tab of ["Logs", "Attempts", "Inputs", "Result"]) await page.getByRole("tab", { name: tab }).click();
  await page.getByText("The export has only a part of it.").waitFor();
  await checkAccessible(page);
  assert.equal(await page.getByRole("button", { name: /Retry|Cancel|Run again|Copy as/ }).count(), 0);
  await page.getByRole("button", { name: "Graph" }).click();
  await page.locator(".graph-box").first().waitFor();
  assert.equal(await page.evaluate(() => "harmed" in globalThis), false);
  assert.deepEqual(errors, []);
  assert.deepEqual(requests, []);
});

it("says that a file without a run has none", { timeout: 120_000 }, async () => {
  const { page } = await openPage(browser);
  await page.goto(pathToFileURL(join(STATIC, "export.html")).href);
  await page.getByText("This file contains no run.").waitFor();
});
