/** Runs to look at: a night of imports, a release that waits for its approval, failures, retries, schedules. */

const SHOPS = ["north", "south", "east", "west", "harbour", "airport"];

const RETRY = { retry: { max_attempts: 3, delay: 0.3 } };

/** A tree of imports: for each shop, orders are loaded, checked and stored. */
export function importTree({ seconds = 0.2, failsAt = null, id = "import" } = {}) {
  const tasks = [{ id, name: "Nightly import", label: "Import of all shops", tags: ["nightly", "team:data"], policy: { timeout: 3600 } }];
  for (const shop of SHOPS) {
    tasks.push(
      { id: `${id}-${shop}`, name: `shop ${shop}`, parent_id: id },
      { id: `${id}-${shop}-load`, name: "load_orders", label: `Load orders of ${shop}`, parent_id: `${id}-${shop}`, inputs: { shop, seconds: seconds * (1 + SHOPS.indexOf(shop) / 3), rows: 20 + SHOPS.indexOf(shop) * 7 } },
      { id: `${id}-${shop}-check`, name: "check_orders", label: `Check orders of ${shop}`, policy: RETRY, parent_id: `${id}-${shop}`, dependencies: [`${id}-${shop}-load`], inputs: { fails: shop === failsAt ? 5 : shop === "east" ? 2 : 0, seconds: seconds / 2 } },
      { id: `${id}-${shop}-store`, name: "load_orders", label: `Store orders of ${shop}`, parent_id: `${id}-${shop}`, dependencies: [`${id}-${shop}-check`], inputs: { shop, seconds } },
    );
  }
  tasks.push({ id: `${id}-report`, name: "aggregate_results_executor", label: "Report", parent_id: id, dependencies: SHOPS.map((shop) => `${id}-${shop}-store`), inputs: { mode: "collect" } });
  return tasks;
}

export const releaseTree = [
  { id: "release", name: "Release 2.4", tags: ["release"] },
  { id: "release-build", name: "wait_for", label: "Build", parent_id: "release", inputs: { seconds: 0.3 } },
  { id: "release-test", name: "check_orders", label: "Test", policy: RETRY, parent_id: "release", dependencies: ["release-build"], inputs: { fails: 1, seconds: 0.2 } },
  {
    id: "release-ask",
    name: "approval_executor",
    label: "May it go out?",
    parent_id: "release",
    dependencies: ["release-test"],
    inputs: {
      question: "May release 2.4 go out tonight?",
      data: { version: "2.4", changes: 31, tests: { passed: 1840, failed: 0 } },
      form: { properties: { window: { type: "string", enum: ["day", "night"], description: "When it goes out." }, note: { type: "string" } }, required: ["window"] },
      timeout: "2d",
    },
  },
  { id: "release-deploy", name: "wait_for", label: "Deploy", parent_id: "release", dependencies: ["release-ask"], inputs: { seconds: 0.2 } },
];

/** A file of tasks with a parameter, as a reader writes it. */
export const FILE_OF_TASKS = `params:
  shop: {type: string, description: Which shop}
tasks:
- id: import
  name: import
- id: load
  name: load_orders
  parent_id: import
  inputs: {shop: "\${params.shop}"}
- id: check
  name: check_orders
  parent_id: import
  dependencies: [load]
`;

/** Fill a server with runs. Returns the IDs of some of them. */
export async function fill(server) {
  const completed = await server.run(importTree({ id: "import-1" }));
  const failed = await server.run(importTree({ id: "import-2", failsAt: "south" }));
  const waiting = await server.call("tasks.submit", { tasks: releaseTree });
  const copy = await server.call("tasks.copy", { task_id: completed.id });
  await server.call("tasks.submit", { tasks: [{ name: "system_info_executor", label: "Figures of the machine", tags: ["health"], inputs: { resource: "memory" } }] });
  await server.call("tasks.create", { tasks: [{ name: "echo", label: "Not started yet", inputs: { text: "later" } }] });
  await server.call("schedules.create", { tasks: importTree({ id: "scheduled" }), name: "Nightly import", cron: "30 2 * * *", timezone: "Europe/Berlin" });
  const health = await server.call("schedules.create", { tasks: [{ name: "system_info_executor" }], name: "Health", every: "15m" });
  await server.call("schedules.trigger", { schedule_id: health.id });
  return { completed: completed.id, failed: failed.id, waiting: waiting.id, copy: copy.id };
}
