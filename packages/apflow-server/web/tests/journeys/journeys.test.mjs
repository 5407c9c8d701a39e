/** Each journey, in light and dark, on a wide and on a narrow screen. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { checkAccessible } from "./accessible.mjs";
import { openPage } from "./browser.mjs";
import { journeys } from "./journeys.mjs";
import { fill } from "./sample.mjs";
import { serverAndBrowser } from "./served.mjs";

const ALL_SCREENS = [
  { name: "wide, light", width: 1440, height: 900, scheme: "light" },
  { name: "wide, dark", width: 1440, height: 900, scheme: "dark" },
  { name: "narrow, light", width: 390, height: 844, scheme: "light" },
  { name: "narrow, dark", width: 390, height: 844, scheme: "dark" },
];

const SCREENS = ALL_SCREENS.filter((screen) => screen.name.includes(process.env.PAGE_SCREEN ?? ""));

const { server, browser } = await serverAndBrowser();
let ids;

before(async () => {
  ids = await fill(server);
  await server.call("system.executors"); // the first call imports every executor
});

for (const screen of SCREENS) {
  describe(screen.name, () => {
    for (const [name, journey] of Object.entries(journeys)) {
      it(name, { timeout: 120_000 }, async () => {
        const { page, context, errors } = await openPage(browser, screen);
        const foreign = [];
        page.on("request", (request) => request.url().startsWith(server.url) || /^(data|blob):/.test(request.url()) || foreign.push(request.url()));
        const open = async (place) => {
          await page.goto(`${server.url}ui/${place}`);
          await page.locator("main").waitFor();
        };
        try {
          await journey({ page, server, ids, open });
          await checkAccessible(page);
          assert.deepEqual(errors, []);
          assert.deepEqual(foreign, []);
          const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(overflow <= 0, `The page is ${overflow} pixels too wide.`);
        } catch (error) {
          if (process.env.PAGE_PICTURES) await page.screenshot({ path: `${process.env.PAGE_PICTURES}/${screen.name} ${name}.png` });
          throw error;
        } finally {
          await context.close();
        }
      });
    }
  });
}
