// Operators sign in with a token; with `admin:read`, no view shows a control that the service would refuse.
import assert from "node:assert/strict";
import { inBrowser, isAccessible, view } from "./browser.mjs";

const HARMLESS = /^(Filter|Find|Show likes|Sign out|Load more|Close|)$/;

await inBrowser(async (open) => {
  const page = await open("/admin");
  const signIn = async (token) => {
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Sign in" }).click();
  };
  await page.getByLabel("Token").waitFor();
  await isAccessible(page, "sign-in");
  await signIn("lkw_nobody");
  await page.getByRole("alert").waitFor();
  await signIn("lkw_watcher");
  await page.getByText("read-only").waitFor();

  const refused = [];
  page.on("response", (response) => response.status() === 403 && refused.push(response.url()));
  for (const name of ["overview", "actors/cache_writer", "events", "events?status=failed", `events/${process.env.EVENT}`, "quarantine", `quarantine/${process.env.MESSAGE}`, "webhooks", `webhooks/${process.env.LETTER}`, "likes", "likes?user_id=1", "jobs", `jobs/${process.env.JOB}`, "operations", "audit", "stream", "dependencies"]) {
    await view(page, name);
    const controls = page.locator("main :is(button, input[type=checkbox], textarea:not([readonly])), dialog button");
    const shown = await controls.evaluateAll((all) => all.map((one) => (one.innerText || one.getAttribute("aria-label") || one.name || one.type).trim()));
    assert.deepEqual(shown.filter((control) => !HARMLESS.test(control)), [], name);
  }
  assert.deepEqual(refused, []);

  await page.goto(`${process.env.URL}/admin#/overview`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn("lkw_chief");
  await page.locator(".who-name", { hasText: "chief" }).waitFor();
  await page.goto(`${process.env.URL}/admin#/events?status=failed`);
  await page.getByRole("button", { name: "Retry all" }).waitFor();
});
