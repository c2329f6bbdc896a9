// Pictures of both pages and of every view of the console, on a phone and on a desktop, light and dark, to look at. Views of one
// row are there if the environment names it. Of a running service:
// URL=http://127.0.0.1:8080 CHROMIUM=$(command -v chromium) OUT=/tmp/pictures npm run screenshots
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { inBrowser, send, view } from "./browser.mjs";

const { OUT: folder = "pictures", EVENT, LETTER, MESSAGE, JOB, USER_ID } = process.env;
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };

const VIEWS = {
  overview: "overview",
  actor: "actors/cache_writer",
  events: "events",
  "events-failed": "events?status=failed",
  "events-none": "events?error=nothing+like+this",
  event: EVENT && `events/${EVENT}`,
  find: "find",
  "find-user": USER_ID && `find?user_id=${USER_ID}`,
  quarantine: "quarantine",
  "quarantine-none": "quarantine?reason=nothing+like+this",
  message: MESSAGE && `quarantine/${MESSAGE}`,
  webhooks: "webhooks",
  "dead-letter": LETTER && `webhooks/${LETTER}`,
  likes: "likes",
  "likes-user": USER_ID && `likes?user_id=${USER_ID}`,
  jobs: "jobs",
  job: JOB && `jobs/${JOB}`,
  operations: "operations",
  audit: "audit",
  stream: "stream",
  dependencies: "dependencies",
  unknown: "no-such-view",
};

/** Lets the flow have something to show. */
let isBusy = true;
async function crowd() {
  while (isBusy) {
    const user = 1_000_000 + Math.floor(Math.random() * 1_000_000);
    await send("PUT", `/v1/videos/${1 + (user % 3)}/like`, { "X-User-Id": String(user) });
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}

mkdirSync(folder, { recursive: true });
const likes = crowd();
await inBrowser(async (open) => {
  const wide = [];
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      const options = { viewport, colorScheme, reducedMotion: "reduce", deviceScaleFactor: size === "phone" ? 2 : 1 };
      const take = async (page, name) => {
        if (!(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth))) wide.push(`${name} on a ${size}`);
        await page.screenshot({ path: `${folder}/${name}-${size}-${colorScheme}.png`, fullPage: true });
      };
      const home = await open("/", options);
      await home.locator(".like:enabled").first().click();
      await home.locator(".journey[data-done=true]").waitFor();
      await take(home, "home");
      await home.close();
      const admin = await open("/admin", options);
      await admin.locator(".arrows .busy").first().waitFor();
      for (const [name, path] of Object.entries(VIEWS)) {
        if (!path) continue;
        await view(admin, path);
        if (name === "actor") await admin.locator("dialog.panel[open]").waitFor();
        await take(admin, name);
        if (name === "actor") {
          await admin.keyboard.press("Escape");
          // Closing the panel goes back to the overview, and on a busy machine it would do so after the next view was opened.
          await admin.locator("dialog.panel").waitFor({ state: "detached" });
        }
      }
      await admin.close();
    }
  }
  isBusy = false;
  await likes;
  assert.deepEqual(wide, [], "wider than the screen");
});
