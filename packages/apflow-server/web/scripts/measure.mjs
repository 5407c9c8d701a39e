/**
 * Measures a run of 20,000 tasks in a real browser, while events arrive: `node scripts/measure.mjs [TASKS] [EVENTS PER SECOND]`.
 *
 * The server of this measurement serves the built page and made-up events, so that the page alone is measured.
 */
import { createServer } from "node:http";
import { readFiles, STATIC } from "./static_files.mjs";
import { openPage, startBrowser } from "../tests/journeys/browser.mjs";

const [count = 20_000, rate = 500] = process.argv.slice(2).map(Number);
const SECONDS = 10;
const TYPES = { html: "text/html", js: "text/javascript", css: "text/css" };
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; worker-src 'self'";
const files = await readFiles(STATIC);
const begin = Date.now() - 60_000;
let sending = false;
let sent = 0;
const timeOf = (milliseconds) => new Date(milliseconds).toISOString();

const tasks = Array.from({ length: count }, (_, at) => taskOf(at));
const tree = { ...tasks[0], children: [] };
const groups = new Map();
for (const task of tasks.slice(1)) {
  const group = groups.get(task.parent_id) ?? (task.parent_id === "t0" ? tree : null);
  const nested = { ...task, children: [] };
  if (task.has_children) groups.set(task.id, nested);
  (groups.get(task.parent_id) ?? group ?? tree).children.push(nested);
}

const server = createServer(answer);
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${server.address().port}/`;
const browser = await startBrowser();
const { page, errors } = await openPage(browser);
await page.addInitScript(watch);
await page.goto(`${url}ui/#/runs/t0`);
await page.locator(".task-row").first().waitFor();
await page.waitForFunction((all) => Number(document.querySelector("#run-table")?.ariaRowCount) > all, count, { timeout: 60_000 });
await page.evaluate(() => (globalThis.measured.tasksBefore = globalThis.measured.longTasks.length));
await browser.startTracing(page, { categories: ["toplevel", "disabled-by-default-devtools.timeline", "devtools.timeline"] });
sending = true;
await page.waitForTimeout(SECONDS * 1000);
sending = false;
const trace = JSON.parse((await browser.stopTracing()).toString());
const { firstRows, longTasks, tasksBefore } = await page.evaluate(() => globalThis.measured);
const during = longTasks.slice(tasksBefore);
const busiest = processorTimes(trace.traceEvents);
console.log(`${count} tasks: first rows after ${Math.round(firstRows)} ms, longest task while loading ${most(longTasks.slice(0, tasksBefore))} ms`);
console.log(`${sent} events in ${SECONDS} s: longest task ${most(during)} ms, ${during.filter((each) => each > 100).length} over 100 ms`);
console.log(`The same by the time of the processor, without what other programs took: longest ${most(busiest)} ms, ${busiest.filter((each) => each > 100).length} over 100 ms, ${Math.round(busiest.reduce((sum, each) => sum + each, 0) / SECONDS / 10)} % of a processor`);
console.log(`${await page.locator(".task-row").count()} rows in the document, ${errors.length} errors in the console`);
await browser.close();
server.closeAllConnections();
server.close();

function most(durations) {
  return Math.round(Math.max(0, ...durations));
}

/** Return how long the processor worked on each task of the main thread of the page, in milliseconds. */
function processorTimes(events) {
  const main = events.filter((event) => event.name === "thread_name" && event.args.name === "CrRendererMain").map((event) => `${event.pid}/${event.tid}`);
  return events.filter((event) => /RunTask$/.test(event.name) && main.includes(`${event.pid}/${event.tid}`) && event.tdur).map((event) => event.tdur / 1000);
}

/** In the page: note when the first rows are painted, and tasks that block it for longer than 50 ms. */
function watch() {
  globalThis.measured = { firstRows: 0, longTasks: [], tasksBefore: 0 };
  new PerformanceObserver((list) => globalThis.measured.longTasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ entryTypes: ["longtask"] });
  new MutationObserver((_, observer) => {
    if (document.querySelector(".task-row") === null) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => (globalThis.measured.firstRows = performance.now())));
  }).observe(document, { subtree: true, childList: true });
}

function taskOf(at) {
  const isGroup = at % 100 === 1;
  const parent = at === 0 ? null : isGroup ? "t0" : `t${at - ((at - 1) % 100)}`;
  return {
    id: `t${at}`, key: `t${at}`, parent_id: parent, root_id: "t0", user_id: null, name: isGroup || at === 0 ? `group ${at}` : "load_orders", label: isGroup ? null : `Task ${at}`, tags: [],
    status: at === 0 ? "in_progress" : "pending", priority: 2, dependencies: at % 100 > 2 ? [{ id: `t${at - 1}`, required: true }] : [], inputs: { shop: "north", rows: at }, params: {}, schemas: {}, policy: {},
    result: null, error: null, progress: 0, has_children: at === 0 || isGroup, attempts: 0, created_at: timeOf(begin), started_at: at === 0 ? timeOf(begin) : null, updated_at: timeOf(begin), completed_at: null,
    original_task_id: null, has_copy: false, spawned_by: null, child_trees: [], cached_from: null,
  };
}

function answer(request, response) {
  const path = new URL(request.url, url).pathname;
  if (path === "/ui/session") return json(response, { required: false, csrf: null, user: null, is_admin: true, expires_at: null });
  if (path.endsWith("/events")) return follow(response);
  if (path === "/follow") return response.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders();
  if (path === "/tasks") return rpc(request, response);
  const name = path === "/ui/" ? "index.html" : path.slice("/ui/".length);
  const content = files.get(name);
  response.writeHead(content ? 200 : 404, { "Content-Type": TYPES[name.split(".").at(-1)] ?? "text/plain", "Content-Security-Policy": POLICY });
  response.end(content);
}

function json(response, value) {
  response.writeHead(200, { "Content-Type": "application/json" });
  response.end(JSON.stringify(value));
}

async function rpc(request, response) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const { id, method } = JSON.parse(Buffer.concat(parts).toString());
  const result = method === "tasks.export" ? { lines: tasks.slice(0, 300).map((task) => ({ task })), cursor: null } : [];
  json(response, { jsonrpc: "2.0", id, result });
}

/** The stream: a snapshot, then tasks that start and end, in bursts as a server sends them. */
function follow(response) {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  let sequence = count;
  const event = (type, task, more) => {
    const data = { type, task_id: task.id, key: task.key, root_task_id: "t0", sequence: ++sequence, timestamp: timeOf(Date.now()), status: null, progress: null, message: null, data: null, result: null, error: null, ...more };
    response.write(`id: ${sequence}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  event("snapshot", tasks[0], { data: tree });
  let at = 2;
  let started = 0;
  const timer = setInterval(() => {
    if (!sending) return;
    started ||= Date.now();
    while (sent < (rate * (Date.now() - started)) / 1000) {
      const task = tasks[at % count];
      at += tasks[(at + 1) % count].has_children ? 2 : 1;
      event("task_started", task, { status: "in_progress" });
      event(at % 50 === 0 ? "task_failed" : "task_completed", task, at % 50 === 0 ? { status: "failed", error: "The stock service answered with status 503." } : { status: "completed", progress: 1 });
      sent += 2;
    }
  }, 20);
  response.on("close", () => clearInterval(timer));
}
