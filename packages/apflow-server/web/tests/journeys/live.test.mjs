/** Lists show what changes, without being asked for again and again; after an end of the server, too, and without a stream. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { openPage } from "./browser.mjs";
import { releaseTree } from "./sample.mjs";
import { serverAndBrowser } from "./served.mjs";
import { until } from "./server.mjs";

const { server, browser } = await serverAndBrowser();

const TIMEOUT = 90_000; // milliseconds, on a busy machine

/** Open a view. What it sends to operations one by one is in `calls`. */
async function openView(place) {
  const { page, context, errors } = await openPage(browser);
  page.setDefaultTimeout(TIMEOUT);
  const calls = [];
  page.on("request", (request) => request.url() === `${server.url}tasks` && calls.push(request.postData()));
  await page.goto(`${server.url}ui/#/${place}`);
  await page.locator("h1").waitFor();
  return { page, context, errors, calls };
}

const stateOf = (page, id, word) => page.locator("tr", { has: page.locator(`a[href$="${id}"]`) }).locator(".badge", { hasText: word });

it("shows new runs, their states and their end in the list, without asking for it", { timeout: 3 * TIMEOUT }, async () => {
  const { page, context, errors, calls } = await openView("runs");
  await page.getByText("There are no runs yet.").waitFor();
  await server.call("tasks.submit", { tasks: [{ id: "slow", name: "wait_for", inputs: { seconds: 5 } }] });
  await stateOf(page, "slow", "Running").waitFor();
  await stateOf(page, "slow", "Completed").waitFor();
  await page.getByRole("button", { name: /Completed 1/ }).waitFor();
  await server.call("tasks.delete", { task_id: "slow", force: true });
  await page.getByText("There are no runs yet.").waitFor();
  assert.deepEqual(calls, []);
  assert.deepEqual(errors, []);
  await context.close();
});

it("counts and lists what waits for an approval, and what was decided elsewhere", { timeout: 3 * TIMEOUT }, async () => {
  const { page, context, calls } = await openView("approvals");
  await page.getByText("Nothing waits for a decision.").waitFor();
  await server.call("tasks.submit", { tasks: releaseTree });
  await page.locator(".approval").waitFor();
  await page.locator(".nav .count", { hasText: "1" }).waitFor();
  await server.call("approvals.approve", { task_id: "release-ask", answers: { window: "day" } });
  await page.getByText("Nothing waits for a decision.").waitFor();
  await page.locator(".nav .count").waitFor({ state: "detached" });
  assert.deepEqual(calls, []);
  await server.ended("release");
  await context.close();
});

it("shows a schedule that is paused elsewhere", { timeout: 3 * TIMEOUT }, async () => {
  const { page, context } = await openView("schedules");
  await page.getByText("There are no schedules.").waitFor();
  const { id } = await server.call("schedules.create", { tasks: [{ name: "echo" }], name: "Nightly", every: "1d" });
  await page.getByRole("button", { name: "Pause" }).waitFor();
  await server.call("schedules.pause", { schedule_id: id });
  await page.getByRole("button", { name: "Resume" }).waitFor();
  await context.close();
});

it("has no stream while the page is hidden, and catches up when it is seen", { timeout: 3 * TIMEOUT }, async () => {
  const { page, context } = await openView("runs");
  const streams = async () => (await (await fetch(`${server.url}metrics`)).text()).match(/^apflow_streams_open\{kind="sse"\} (\d+)/m)?.[1];
  const show = (state) => page.evaluate((value) => {
    Object.defineProperty(document, "visibilityState", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, state);
  await until(async () => Number(await streams()) > 0, TIMEOUT / 1000, () => "There is no stream.");
  await show("hidden");
  await until(async () => Number(await streams()) === 0, TIMEOUT / 1000, () => "There is a stream.");
  await server.call("tasks.create", { tasks: [{ id: "unseen", name: "echo" }] });
  await show("visible");
  await stateOf(page, "unseen", "Pending").waitFor();
  await context.close();
});

it("shows what happened while the server was away", { timeout: 4 * TIMEOUT }, async () => {
  await server.call("tasks.submit", { tasks: [{ id: "before", name: "wait_for", inputs: { seconds: 15 } }] });
  const { page, context } = await openView("runs");
  await stateOf(page, "before", "Running").waitFor();
  await server.end("SIGKILL");
  await page.getByText("The server does not answer.").waitFor();
  await stateOf(page, "before", "Running").waitFor();
  await server.start();
  await server.call("tasks.create", { tasks: [{ id: "after", name: "echo" }] });
  await stateOf(page, "before", "Completed").waitFor();
  await stateOf(page, "after", "Pending").waitFor();
  await page.getByText("The server does not answer.").waitFor({ state: "detached" });
  await context.close();
});

it("reads the list from time to time where there is no stream", { timeout: 3 * TIMEOUT }, async () => {
  const { page, context } = await openPage(browser);
  page.setDefaultTimeout(TIMEOUT);
  await page.route("**/follow", (route) => route.fulfill({ status: 404, body: "{}" }));
  await page.goto(`${server.url}ui/#/runs`);
  await page.locator("tr").first().waitFor();
  await server.call("tasks.submit", { tasks: [{ id: "polled", name: "echo" }] });
  await stateOf(page, "polled", "Completed").waitFor();
  await context.close();
});
