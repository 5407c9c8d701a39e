/** Whatever tasks are called, return, log or fail with: nothing of it is executed or taken for markup. */
import assert from "node:assert/strict";
import { before, it } from "node:test";
import { openPage } from "./browser.mjs";
import { HOSTILE, hostileTree } from "./hostile.mjs";
import { serverAndBrowser } from "./served.mjs";

const { server, browser } = await serverAndBrowser();

before(async () => {
  await server.run(hostileTree("hostile"));
  await server.call("schedules.create", { tasks: [{ name: "echo" }], name: HOSTILE[1], every: "1d" });
});

/** Fail if anything was executed, or if there are elements that only markup in a text can have made. */
async function checkUnharmed(page, errors) {
  const found = await page.evaluate(() => ({
    harmed: "harmed" in globalThis,
    made: [...document.querySelectorAll("#page :is(script, img, iframe, object, math, template, style, body, [onerror], [onload], [onfocus], [ontoggle], [href^=javascript])")].map((each) => each.outerHTML.slice(0, 100)),
  }));
  assert.deepEqual(found, { harmed: false, made: [] });
  assert.deepEqual(errors, []);
}

it("shows 200 hostile texts as texts in the list of runs, the tree, the graph and the drawer", { timeout: 600_000 }, async () => {
  assert.equal(new Set(HOSTILE).size, 200);
  const { page, errors } = await openPage(browser, { height: 6400 });
  await page.goto(`${server.url}ui/#/runs`);
  await page.locator(".run-link").first().waitFor();
  await checkUnharmed(page, errors);

  await page.goto(`${server.url}ui/#/runs/hostile`);
  await page.waitForFunction(() => document.querySelectorAll(".task-row").length === 201);
  const titles = await page.locator(".task-title").allTextContents();
  const labels = (await server.call("tasks.children", { parent_id: "hostile" })).map((task) => task.label);
  assert.deepEqual([...titles.slice(1)].sort(), [...labels].sort());
  await checkUnharmed(page, errors);

  await page.getByRole("button", { name: "Graph" }).click();
  await page.locator(".graph-box").first().waitFor();
  await checkUnharmed(page, errors);
  await page.setViewportSize({ width: 1440, height: 900 });

  for (let at = 0; at < HOSTILE.length; at += 17) {
    await page.goto(`${server.url}ui/#/runs/hostile/task/hostile-${at}`);
    for (const tab of ["Overview", "Inputs", "Result", "Logs", "Attempts"]) {
      await page.getByRole("tab", { name: tab }).click();
      if (tab === "Inputs") await page.locator(".json pre").first().waitFor();
    }
    await checkUnharmed(page, errors);
  }
  await page.goto(`${server.url}ui/#/runs/hostile/task/hostile`);
  await page.getByRole("tab", { name: "Logs" }).click();
  await page.waitForFunction(() => document.querySelectorAll(".log-line").length >= 200);
  await checkUnharmed(page, errors);
  await page.goto(`${server.url}ui/#/schedules`);
  await page.locator("tbody tr").first().waitFor();
  await checkUnharmed(page, errors);
});
