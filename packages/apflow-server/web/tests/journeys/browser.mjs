/** Debian's Chromium, driven by playwright-core. */
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Return where a Chromium is, or null. */
export function findChromium() {
  return PLACES.find((place) => place && existsSync(place)) ?? null;
}

export async function startBrowser() {
  const executablePath = findChromium();
  if (executablePath === null) throw new Error("There is no Chromium: install it, or name it in CHROMIUM.");
  return await chromium.launch({ executablePath, args: FLAGS });
}

/** Open a page in a context of its own. What the console reports as errors is in `errors`. */
export async function openPage(browser, { width = 1440, height = 900, scheme = "light", ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme, reducedMotion: "reduce", locale: "en-GB", timezoneId: "Europe/Berlin", ...more });
  const page = await context.newPage();
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(`${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.setDefaultTimeout(30_000);
  return { page, context, errors };
}
