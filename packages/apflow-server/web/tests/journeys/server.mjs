/** A real server in a process of its own, on a DuckDB file in a temporary folder. */
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const APFLOW = process.env.APFLOW_COMMAND ?? "apflow";
const START_SECONDS = 240; // a busy machine

export class Server {
  #process = null;
  #folder;
  #env;
  output = "";

  constructor(folder, port, env) {
    this.#folder = folder;
    this.port = port;
    this.#env = env;
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  get pid() {
    return this.#process?.pid ?? null;
  }

  async start() {
    const env = {
      ...process.env,
      APFLOW_DATABASE_URL: `duckdb:///${join(this.#folder, "page.duckdb")}`,
      APFLOW_CONFIG_DIR: this.#folder,
      HOME: this.#folder,
      PYTHONPATH: HERE,
      APFLOW_RATE_LIMIT: "1000000",
      APFLOW_WORKER_RESOURCES: "gpu=2",
      APFLOW_WORKER_LABELS: "zone=eu",
      ...this.#env,
    };
    this.#process = spawn(APFLOW, ["serve", "--port", String(this.port), "--import", "page_executors"], { env, cwd: this.#folder });
    for (const stream of [this.#process.stdout, this.#process.stderr]) stream.on("data", (data) => (this.output += data));
    await until(() => fetch(`${this.url}health`).then((answer) => answer.ok), START_SECONDS, () => `The server did not start:\n${this.output}`);
  }

  /** End the process. With SIGKILL it has no time to say goodbye. */
  async end(signal = "SIGTERM") {
    const process = this.#process;
    if (process === null) return;
    this.#process = null;
    const exited = new Promise((resolve) => process.once("exit", resolve));
    process.kill(signal);
    await exited;
  }

  async close() {
    await this.end("SIGKILL");
    await rm(this.#folder, { recursive: true, force: true });
  }

  async call(method, params = {}) {
    const answer = await fetch(`${this.url}tasks`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    });
    const { result, error } = await answer.json();
    if (error) throw new Error(`${method}: ${error.message} ${JSON.stringify(error.data ?? "")}`);
    return result;
  }

  /** Create a tree, run it, and return its root when the run has ended. */
  async run(tasks, options = {}) {
    const root = await this.call("tasks.submit", { tasks, ...options });
    await this.ended(root.id);
    return root;
  }

  async ended(id, seconds = 60) {
    const isOver = async () => (await this.call("tasks.running.status", { task_ids: [id] }))[0].is_running === false;
    await until(isOver, seconds, () => `${id} has not ended.`);
  }
}

/** Start a server on a free port. */
export async function startServer(env = {}) {
  const folder = await mkdtemp(join(tmpdir(), "apflow-page-"));
  const server = new Server(folder, await freePort(), env);
  try {
    await server.start();
  } catch (error) {
    await server.close();
    throw error;
  }
  return server;
}

/** Wait until a condition holds. */
export async function until(condition, seconds, problem) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    if (await Promise.resolve().then(condition).catch(() => false)) return;
    if (Date.now() > end) throw new Error(problem());
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

export async function freePort() {
  const listener = createServer();
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return port;
}
