/** Readers of a server that needs tokens: with a token in memory, and with a session; also below a path of a proxy. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer, request as httpRequest } from "node:http";
import { after, before, it } from "node:test";
import { openPage, startBrowser } from "./browser.mjs";
import { startServer, until } from "./server.mjs";

const SECRET = "a secret of this test that is long enough";

let server, browser, proxy;

function token(user, isAdmin = false) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: user, exp: Math.floor(Date.now() / 1000) + 3600, ...(isAdmin && { role: "admin" }) };
  const text = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

async function callAs(user, method, params) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token(user)}` };
  const answer = await fetch(`${server.url}tasks`, { method: "POST", headers, body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }) });
  const { result, error } = await answer.json();
  assert.equal(error, undefined);
  return result;
}

before(async () => {
  server = await startServer({ APFLOW_JWT_SECRET: SECRET });
  await callAs("ann", "tasks.submit", { tasks: [{ id: "of-ann", name: "echo", label: "Ann's run", inputs: { text: "x" } }] });
  proxy = await belowPath(server.port, "/apps/flow");
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  proxy?.closeAllConnections();
  proxy?.close();
  await server?.close();
});

/** A proxy that serves what is at a port below a path. */
async function belowPath(port, prefix) {
  const listener = createServer((incoming, response) => {
    if (!incoming.url.startsWith(`${prefix}/`)) return response.writeHead(404).end();
    const forward = httpRequest({ port, host: "127.0.0.1", path: incoming.url.slice(prefix.length), method: incoming.method, headers: incoming.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    forward.on("error", () => response.destroy());
    response.on("close", () => forward.destroy());
    incoming.pipe(forward);
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return listener;
}

async function signIn(page, text, remembered) {
  await page.getByLabel("Token", { exact: true }).fill(text);
  if (remembered) await page.getByLabel("as a session of this browser").check();
  await page.getByRole("button", { name: "Sign in" }).click();
}

async function seesRun(page) {
  await page.getByRole("link", { name: "Ann's run" }).last().click();
  await page.locator(".run-title .badge", { hasText: "Completed" }).waitFor();
}

it("refuses a wrong token, and keeps a right one in memory only", { timeout: 240_000 }, async () => {
  const { page, context } = await openPage(browser);
  await page.goto(`${server.url}ui/`);
  await signIn(page, "wrong", false);
  await page.getByRole("alert").waitFor();
  await signIn(page, token("ann"), false);
  await seesRun(page);
  await page.getByRole("button", { name: "Run again" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Run again" }).click();
  await page.getByText("requested.").waitFor();
  assert.deepEqual(await context.cookies(), []);
  assert.deepEqual(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage })), "{}");
  await page.reload();
  await page.getByLabel("Token", { exact: true }).waitFor();
});

it("keeps a session, changes things with it, and ends it", { timeout: 240_000 }, async () => {
  const { page, context } = await openPage(browser);
  await page.goto(`${server.url}ui/`);
  await signIn(page, token("ann"), true);
  await seesRun(page);
  await page.reload();
  await page.locator(".run-title .badge", { hasText: "Completed" }).waitFor();
  await page.locator(".run-actions").getByRole("button", { name: "Copy", exact: true }).click();
  await page.getByText("Copied.").waitFor();
  const [cookie] = await context.cookies();
  assert.equal(cookie.httpOnly, true);
  assert.equal(cookie.sameSite, "Strict");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Token", { exact: true }).waitFor();
  await page.reload();
  await page.getByLabel("Token", { exact: true }).waitFor();
});

it("shows a user no runs of others", { timeout: 240_000 }, async () => {
  const { page } = await openPage(browser);
  await page.goto(`${server.url}ui/`);
  await signIn(page, token("bob"), false);
  await page.getByText("There are no runs yet.").waitFor();
  await callAs("ann", "tasks.create", { tasks: [{ name: "echo", label: "Ann's second run" }] });
  await callAs("bob", "tasks.create", { tasks: [{ name: "echo", label: "Bob's run" }] });
  await page.getByRole("link", { name: "Bob's run" }).waitFor();
  assert.equal(await page.locator(".run-link").count(), 1);
  await page.goto(`${server.url}ui/#/runs/of-ann`);
  await page.getByText("There is no run of-ann.").waitFor();
});

it("works below a path of a proxy, with a session", { timeout: 240_000 }, async () => {
  const { page, errors } = await openPage(browser);
  const foreign = [];
  const root = `http://127.0.0.1:${proxy.address().port}/apps/flow/`;
  page.on("request", (request) => request.url().startsWith(root) || request.url().startsWith("data:") || foreign.push(request.url()));
  await page.goto(`${root}ui/`);
  await signIn(page, token("ann"), true);
  await seesRun(page);
  await page.reload();
  await page.locator(".run-title .badge", { hasText: "Completed" }).waitFor();
  assert.deepEqual(foreign, []);
  assert.deepEqual(errors.filter((error) => !error.includes("401")), []);
});

it("takes a token out of the address", { timeout: 240_000 }, async () => {
  const { page } = await openPage(browser);
  await page.goto(`${server.url}ui/#token=${token("ann")}`);
  await page.getByRole("link", { name: "Ann's run" }).last().waitFor();
  await until(() => !page.url().includes("token"), 10, () => page.url());
  await page.goBack().catch(() => null);
  assert.ok(!page.url().includes("token"));
});
