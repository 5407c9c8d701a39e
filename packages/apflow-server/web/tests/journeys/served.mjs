/** A server and a browser for all tests of a file. */
import { after } from "node:test";
import { startBrowser } from "./browser.mjs";
import { startServer } from "./server.mjs";

/** Start both. They are closed when the tests of the file have ended. */
export async function serverAndBrowser() {
  const server = await startServer();
  after(() => server.close());
  const browser = await startBrowser();
  after(() => browser.close());
  return { server, browser };
}
