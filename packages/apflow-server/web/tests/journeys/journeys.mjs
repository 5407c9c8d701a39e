/** What readers do, each as a journey through the page. A journey gets the page, the server, and the IDs of runs. */
import assert from "node:assert/strict";
import { importTree, releaseTree } from "./sample.mjs";
import { until } from "./server.mjs";

let last = 0;

/** Return a tree with new IDs, so that a journey may change it. */
function own(tree) {
  const prefix = `j${process.pid}-${++last}-`;
  const renamed = (id) => (typeof id === "string" ? prefix + id : { ...id, id: prefix + id.id });
  return tree.map((task) => ({
    ...task,
    id: prefix + task.id,
    ...(task.parent_id && { parent_id: prefix + task.parent_id }),
    ...(task.dependencies && { dependencies: task.dependencies.map(renamed) }),
  }));
}

const row = (page, name) => page.locator(".task-row", { hasText: name }).first();

export const journeys = {
  "finds runs by state, text and tag": async ({ page, open, server }) => {
    await open("#/runs");
    await page.getByRole("button", { name: /Failed/ }).click();
    await page.getByRole("link", { name: "Import of all shops" }).first().waitFor();
    assert.match(page.url(), /state=failed/);
    await page.waitForFunction(() => [...document.querySelectorAll(".run-list .badge")].every((badge) => badge.textContent === "Failed"));
    await page.getByRole("button", { name: /Failed/ }).click();
    await page.getByLabel("Tag").fill("health");
    const [{ id, label }] = own([{ id: "drawn", name: "echo", label: "The list is drawn again" }]);
    await server.call("tasks.create", { tasks: [{ id, name: "echo", label }] });
    await page.locator(`a[href$="${id}"]`).waitFor();
    assert.equal(await page.getByLabel("Tag").inputValue(), "health");
    await page.getByLabel("Tag").press("Enter");
    await page.getByRole("link", { name: "Figures of the machine" }).waitFor();
    await page.getByText("1 run", { exact: true }).waitFor();
    await page.getByLabel("Tag").fill("");
    await page.getByLabel("Tag").press("Enter");
    await page.getByLabel("Find runs").fill("no such run");
    await page.getByText("No run matches.").waitFor();
    await page.getByRole("link", { name: "Show all runs" }).click();
    await page.getByRole("link", { name: "Not started yet" }).waitFor();
  },

  "groups runs by tag, and by the tree that was copied": async ({ page, open }) => {
    await open("#/runs");
    await page.getByLabel("Groups").selectOption("tag");
    await page.locator("summary", { hasText: "nightly" }).waitFor();
    const linksOf = (title) => page.locator("details", { has: page.locator("summary", { hasText: title }) }).locator(".run-link");
    await linksOf("Without a tag").filter({ hasText: "Not started yet" }).waitFor();
    assert.deepEqual([...new Set(await linksOf("nightly").allTextContents())], ["Import of all shops"]);
    await page.getByLabel("Groups").selectOption("original");
    await page.getByText("Copies of").first().waitFor();
  },

  "moves through a run by keys, opens a task and comes back": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.failed}`);
    await page.locator("#run-table").focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowLeft");
    assert.equal(await row(page, "Load orders of north").count(), 0);
    await page.keyboard.press("ArrowRight");
    await row(page, "Load orders of north").waitFor();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog", { name: "Task Load orders of north" }).waitFor();
    await page.waitForFunction(() => document.activeElement?.tagName === "H2");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.activeElement?.id === "run-table");
    await page.keyboard.press("e");
    const active = await page.locator("#run-table").getAttribute("aria-activedescendant");
    assert.equal(await page.locator(`#${active} .task-title`).textContent(), "Check orders of south");
  },

  "says why a task is in its state": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.failed}`);
    await page.locator("#run-table").focus();
    await page.keyboard.press("e");
    await page.keyboard.press("w");
    const dialog = page.getByRole("dialog", { name: /^Why: Check orders of south/ });
    await dialog.getByText("answered with status 503").first().waitFor();
    await dialog.getByText("What to do").waitFor();
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.activeElement?.id === "run-table");
  },

  "shows attempts apart": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.completed}/task/${ids.completed}-east-check`);
    await page.locator(".bar-retry").first().waitFor();
    await page.getByRole("tab", { name: "Attempts" }).click();
    await page.getByText("Attempt 3", { exact: true }).waitFor();
    assert.deepEqual(await page.locator(".attempt strong").allTextContents(), ["Attempt 3", "Attempt 2", "Attempt 1"]);
    await page.getByRole("button", { name: "Close the drawer" }).click();
    await page.getByLabel("Attempts").selectOption("1");
    await page.waitForFunction(() => document.querySelector(".bar-retry") === null);
    await page.getByLabel("Attempts").selectOption("all");
    await page.locator(".bar-retry").first().waitFor();
  },

  "finds tasks within a run": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.completed}`);
    await page.getByRole("searchbox", { name: /Find tasks/ }).fill("check harbour");
    await page.waitForFunction(() => document.querySelectorAll(".task-row").length === 3);
    await page.getByRole("searchbox", { name: /Find tasks/ }).fill("no such task");
    await page.waitForFunction(() => document.querySelectorAll(".task-row").length === 1);
  },

  "chooses a range of time, and all of it again": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.completed}`);
    const all = page.getByRole("button", { name: "Show all time" });
    assert.equal(await all.isDisabled(), true);
    const marks = () => page.locator(".axis").evaluate((axis) => [...axis.children].map((mark) => `${mark.style.left} ${mark.textContent}`).join());
    const whole = await marks();
    const axis = await page.locator(".axis").boundingBox();
    await page.mouse.move(axis.x + axis.width * 0.2, axis.y + 10);
    await page.mouse.down();
    await page.mouse.move(axis.x + axis.width * 0.6, axis.y + 10, { steps: 4 });
    await page.mouse.up();
    assert.equal(await all.isDisabled(), false);
    const part = await marks();
    assert.notEqual(part, whole);
    await page.locator("#run-table").focus();
    await page.keyboard.press(">");
    await until(async () => (await marks()) !== part, 30, () => "The range has not moved.");
    await page.keyboard.press("0");
    await until(async () => (await marks()) === whole, 30, () => "Not all time is shown.");
    await page.waitForFunction(() => document.querySelector('[aria-label="Show all time"]')?.disabled);
  },

  "shows what a task depends on": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.completed}`);
    await row(page, "Check orders of north").hover();
    await page.locator(".dependency-lines path").first().waitFor({ state: "attached" });
    assert.equal(await page.locator(".task-row.is-needed .task-title").first().textContent(), "Load orders of north");
    assert.deepEqual(await page.locator(".task-row.needs .task-title").allTextContents(), ["Store orders of north"]);
  },

  "reads the log of a run": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.completed}/task/${ids.completed}-east-check`);
    await page.getByRole("tab", { name: "Logs" }).click();
    await page.getByText("The stock service does not answer.").first().waitFor();
    await page.getByLabel("Level").selectOption("4");
    await page.getByText("0 lines").waitFor();
    await page.getByLabel("Level").selectOption("0");
    await page.getByText("0 lines").waitFor({ state: "detached" });
    await page.getByLabel("Find in the log").fill("no such line");
    await page.getByText("0 lines").waitFor();
    await page.getByRole("tab", { name: "Logs" }).press("ArrowRight");
    await page.getByRole("tab", { name: "Attempts", selected: true }).waitFor();
  },

  "follows a run live, and cancels it": async ({ page, open, server }) => {
    const tree = own(importTree({ seconds: 20 }));
    const root = await server.call("tasks.submit", { tasks: tree });
    await open(`#/runs/${root.id}`);
    await page.locator(".run-title .badge", { hasText: "Running" }).waitFor();
    await page.locator(".task-message", { hasText: "orders" }).first().waitFor();
    await page.locator(".run-actions").getByRole("button", { name: "Cancel" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    await page.locator(".run-title .badge", { hasText: "Cancelled" }).waitFor();
  },

  "starts a run by the form of an executor": async ({ page, open }) => {
    await open("#/executors/echo");
    await page.getByRole("link", { name: "New run with it" }).click();
    await page.getByLabel("Label").fill("Said by the form");
    await page.getByLabel("Tags").fill("by-form, greeting");
    await page.getByLabel("text", { exact: true }).fill("hello from the form");
    await page.getByRole("button", { name: "Check" }).click();
    await page.getByText("1 task").waitFor();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.locator(".run-title .badge", { hasText: "Completed" }).waitFor();
    assert.deepEqual(await page.locator(".run-facts .tag").allTextContents(), ["by-form", "greeting"]);
    await row(page, "Said by the form").click();
    await page.getByRole("tab", { name: "Result" }).click();
    await page.locator(".json pre", { hasText: "hello from the form" }).waitFor();
  },

  "starts a run of a file, after its faults are mended": async ({ page, open }) => {
    await open("#/new");
    await page.getByRole("button", { name: "A file of tasks" }).click();
    const text = page.getByLabel("Tasks, in JSON or YAML");
    await text.fill("- name: echo\n  name: twice");
    await page.getByRole("button", { name: "Read" }).click();
    await page.getByRole("alert").getByText("is repeated").waitFor();
    await text.fill("- {id: a, name: echo, inputs: {text: 5}}");
    await page.getByRole("button", { name: "Read" }).click();
    await page.getByRole("button", { name: "Check" }).click();
    await page.getByRole("alert").waitFor();
    await text.fill("params:\n  said: {type: string}\ntasks:\n- name: two\n- name: echo\n  parent_id: two\n  inputs: {text: 'from ${params.said}'}\n");
    await page.getByRole("button", { name: "Read" }).click();
    await page.getByLabel(/^said/).fill("a file");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.locator(".run-title .badge", { hasText: "Completed" }).waitFor();
    await row(page, "echo").click();
    await page.getByRole("tab", { name: "Result" }).click();
    await page.locator(".json pre", { hasText: "from a file" }).waitFor();
  },

  "runs a copy from a task on, with other inputs": async ({ page, open, server }) => {
    const id = own([{ id: "x" }])[0].id;
    await server.run([{ id, name: "all" }, { id: `${id}-a`, name: "echo", parent_id: id, inputs: { text: "before" } }]);
    await open(`#/runs/${id}/task/${id}-a`);
    await page.getByRole("tab", { name: "Inputs" }).click();
    await page.getByLabel("Inputs for the copy, as JSON").fill('{"text": "after"}');
    await page.locator(".rerun").getByRole("button", { name: "Run again from here" }).click();
    await page.waitForFunction((old) => !location.hash.includes(old), id);
    await page.locator(".run-title .badge", { hasText: "Completed" }).waitFor();
    await row(page, "echo").click();
    await page.getByRole("tab", { name: "Result" }).click();
    await page.locator(".json pre", { hasText: "after" }).waitFor();
  },

  "approves with the form of an approval": async ({ page, open, server }) => {
    const tree = own(releaseTree);
    const ask = tree.find((task) => task.name === "approval_executor");
    ask.inputs = { ...ask.inputs, question: `May ${tree[0].id} go out?` };
    await server.call("tasks.submit", { tasks: tree });
    await open("#/approvals");
    const card = page.locator(".approval", { hasText: ask.inputs.question });
    await card.getByRole("button", { name: "Approve" }).click();
    await card.getByText("A value is required.").waitFor();
    await card.getByLabel(/^window/).selectOption("night");
    await card.getByLabel("Reason").fill("All tests pass.");
    await card.getByRole("button", { name: "Approve" }).click();
    await card.waitFor({ state: "detached" });
    await server.ended(tree[0].id);
    await page.getByRole("button", { name: "Decided" }).click();
    await page.locator(".approval-card", { hasText: tree[0].id }).getByText("All tests pass.").waitFor();
  },

  "pauses, resumes and starts a schedule": async ({ page, open }) => {
    await open("#/schedules");
    const schedule = page.locator("tbody tr", { hasText: "Nightly import" });
    await schedule.getByRole("button", { name: "Pause" }).click();
    await schedule.getByRole("button", { name: "Resume" }).click();
    await schedule.getByRole("button", { name: "Pause" }).waitFor();
    await schedule.getByRole("button", { name: "Start now" }).click();
    await schedule.locator(".last-run").first().waitFor();
  },

  "draws a run by dependency and by time": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.completed}/graph`);
    await page.locator(".graph-box").first().waitFor();
    await page.getByRole("button", { name: "By time" }).click();
    await page.locator(".graph-box", { hasText: "Load" }).first().waitFor();
    const place = () => page.locator(".graph-svg > g").getAttribute("transform");
    let fitted; // the size of the page is known only some frames after the first boxes
    await until(async () => fitted === (fitted = await place()), 30, () => "The graph keeps moving.");
    await page.locator(".graph-svg").focus();
    await page.keyboard.press("+");
    await until(async () => (await place()) !== fitted, 30, () => "The graph is not larger.");
    await page.keyboard.press("0");
    await until(async () => (await place()) === fitted, 30, () => "The graph does not fit.");
    await page.locator(".graph-box").first().click();
    await page.getByRole("dialog", { name: /^Task / }).waitFor();
  },

  "shows the server, its workers and its executors": async ({ page, open, server }) => {
    await open("#/system");
    const workers = page.getByRole("region", { name: "Workers" });
    await workers.getByRole("cell", { name: String(server.pid), exact: true }).waitFor();
    await workers.getByRole("cell", { name: "gpu 2, zone eu", exact: true }).waitFor();
    await page.getByText("duckdb://").waitFor();
    await page.getByText("load_orders").waitFor();
  },

  "says how to do the same elsewhere": async ({ page, open, ids }) => {
    await open(`#/runs/${ids.failed}/task/${ids.failed}-south-check`);
    await page.locator(".drawer-actions").getByRole("button", { name: "Copy as…" }).click();
    await page.getByText(`apflow tasks execute ${ids.failed}-south-check --server`).waitFor();
    await page.getByText("/call/tasks.fork").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".drawer").waitFor();
    await open("#/runs?tag=nightly");
    await page.getByRole("button", { name: "Copy as…" }).click();
    const tool = JSON.parse(await page.locator('pre[aria-label="MCP tool call"]').textContent());
    assert.deepEqual(tool.params, { name: "tasks_list", arguments: { root_only: true, tags: ["nightly"] } });
  },

  "chooses light or dark, and skips the navigation": async ({ page, open }) => {
    await open("#/runs");
    await page.getByRole("button", { name: "Theme: auto" }).click();
    await page.getByRole("button", { name: "Theme: light" }).click();
    await page.reload();
    await page.getByRole("button", { name: "Theme: dark" }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.className), "is-dark");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement?.id === "main");
  },

  "goes everywhere by keys": async ({ page, open }) => {
    await open("#/runs");
    await page.locator("body").press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await page.keyboard.press("Escape");
    for (const [key, title] of [["s", "Schedules"], ["a", "Approvals"], ["x", "Executors"], ["y", "System"], ["n", "New run"], ["r", "Runs"]]) {
      await page.keyboard.press("g");
      await page.keyboard.press(key);
      await page.getByRole("heading", { level: 1, name: title }).waitFor();
    }
    await page.keyboard.press("/");
    await page.waitForFunction(() => document.activeElement?.id === "search");
  },
};
