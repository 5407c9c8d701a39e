/** The server dies in the middle of a run, and comes back: the page says so, and misses nothing. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { openPage } from "./browser.mjs";
import { serverAndBrowser } from "./served.mjs";

const TASKS = 40;

const { server, browser } = await serverAndBrowser();

it("shows a banner while the server is away, and everything that happened afterwards", { timeout: 900_000 }, async () => {
  const chain = Array.from({ length: TASKS }, (_, at) => ({ id: `t${at}`, name: "wait_for", parent_id: "long", inputs: { seconds: 0.3 }, ...(at > 0 && { dependencies: [`t${at - 1}`] }) }));
  await server.call("tasks.submit", { tasks: [{ id: "long", name: "Long" }, ...chain] });
  const { page, errors } = await openPage(browser);
  page.setDefaultTimeout(240_000);
  await page.goto(`${server.url}ui/#/runs/long`);
  await page.locator(".chip.is-completed").waitFor();
  await server.end("SIGKILL");
  await page.getByText("The server does not answer.").waitFor();
  const shownWhileAway = await page.locator(".task-row").count();
  assert.ok(shownWhileAway > 1, "The page keeps what it has.");
  await server.start();
  await page.getByText("The server does not answer.").waitFor({ state: "detached" });
  await page.locator(".run-title .badge", { hasText: "Completed" }).waitFor();
  const stored = await server.call("tasks.children", { parent_id: "long" });
  const shown = await page.evaluate(() => [...document.querySelectorAll(".chips .chip")].map((chip) => chip.textContent?.trim()));
  assert.deepEqual(new Set(stored.map((task) => task.status)), new Set(["completed"]));
  assert.deepEqual(shown, [`${TASKS + 1} completed`]);
  const unexpected = errors.filter((error) => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|Failed to load resource|ERR_EMPTY_RESPONSE/.test(error));
  assert.deepEqual(unexpected, []);
});
