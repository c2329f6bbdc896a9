// What the browser tests share: Chromium, pages that watch for what must never happen, and conditions to wait for.
import { AxeBuilder } from "@axe-core/playwright";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { URL: base, CHROMIUM: executablePath } = process.env;

export const url = base;

/** The interval at which a condition is looked at. */
export const EVERY_MS = 50;

/** How long a busy machine may take. */
const PATIENCE_MS = 120_000;

/** How long every view lags behind its address, as on a busy machine: a test that does not wait for its view fails everywhere. */
const LATE_MS = 200;

function showViewsLate(ms) {
  const { addEventListener } = window;
  window.addEventListener = (type, listener, ...options) => {
    const late = type === "hashchange" ? (event) => setTimeout(listener, ms, event) : listener;
    addEventListener.call(window, type, late, ...options);
  };
}

/** Runs a test in a browser, and fails if a page broke a rule. */
export async function inBrowser(test) {
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  const broken = [];
  const open = async (path, options = {}) => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    await context.addInitScript(showViewsLate, LATE_MS);
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("request", (request) => {
      const { origin } = new URL(request.url());
      if (origin !== base) broken.push(`a request to ${origin}`);
    });
    page.on("pageerror", (error) => broken.push(`a script failed: ${error.stack}`));
    page.on("console", (message) => {
      if (/content security policy/i.test(message.text())) broken.push(message.text());
    });
    if (path) await page.goto(base + path);
    return page;
  };
  try {
    await test(open);
    assert.deepEqual(broken, []);
  } finally {
    await browser.close();
  }
}

/** Waits until a condition holds, and fails with its name. */
export async function until(what, condition) {
  const deadline = Date.now() + PATIENCE_MS;
  let last;
  for (;;) {
    last = await condition();
    if (last === true) return;
    if (Date.now() > deadline) throw new Error(`${what}: ${JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

/** Waits until the console shows the view of an address. */
export async function shown(page, path) {
  await page.locator(`main[data-shown="#/${path}"]`).waitFor();
}

/** Opens a view of the console, and waits until it has its data. */
export async function view(page, path) {
  await page.goto(`${base}/admin#/${path}`);
  await shown(page, path);
  await page.waitForFunction(() => document.querySelector("main h1") && !document.querySelector(".waiting"));
}

/** Fails if axe finds a violation of level serious or critical. */
export async function isAccessible(page, name) {
  // What fades in has no contrast yet.
  await page.emulateMedia({ reducedMotion: "reduce" });
  const { violations } = await new AxeBuilder({ page }).analyze();
  const severe = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const shown = severe.map(({ id, nodes }) => ({ id, nodes: nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`) }));
  assert.deepEqual(shown, [], name);
  await page.emulateMedia({ reducedMotion: "no-preference" });
}

/** Answers the question of an operation. */
export async function confirm(page, action, reason) {
  const dialog = page.locator("dialog.confirm[open]");
  if (reason) await dialog.locator("[name=reason]").fill(reason);
  await dialog.getByRole("button", { name: action }).click();
  await dialog.waitFor({ state: "detached" });
}

/** Sends a request to the service, as an operator's script would. */
export async function send(method, path, headers = {}) {
  const response = await fetch(base + path, { method, headers });
  assert.ok(response.status < 300, `${method} ${path}: ${response.status} ${await response.clone().text()}`);
  return response;
}
