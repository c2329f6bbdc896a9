// The overview: likes move the arrows, and an actor that panics or blocks shows within seconds and recovers.
import assert from "node:assert/strict";
import { confirm, inBrowser, isAccessible, send, until } from "./browser.mjs";

let user = 1_000;
const like = () => send("PUT", "/v1/videos/7/like", { "X-User-Id": String((user += 1)) });

await inBrowser(async (open) => {
  const page = await open("/admin");
  const node = (name) => page.locator(`[data-node='${name}']`);
  const state = (name) => node(name).getAttribute("data-state");
  await node("behavior_recorder").waitFor();
  assert.deepEqual(await page.locator(".arrows .line").count() > 5, true);

  await until("a rate on an arrow", async () => {
    await like();
    return (await page.locator(".arrows .busy").count()) >= 3;
  });

  await send("POST", "/admin/faults/panic/cache_writer");
  await fetch(`${process.env.URL}/v1/videos/7/like`, { method: "PUT", headers: { "X-User-Id": "7" } });
  await page.locator(".problems", { hasText: "cache writer" }).waitFor();
  await until("the actor to recover", async () => {
    await like();
    return (await state("cache_writer")) === "running";
  });

  const started = Date.now();
  await send("POST", "/admin/faults/block/behavior_recorder");
  // The block begins with a message; nobody waits for the answer.
  void fetch(`${process.env.URL}/v1/videos/7/like`, { method: "PUT", headers: { "X-User-Id": "8" } }).catch(() => {});
  await page.locator(".problems", { hasText: "is stuck" }).first().waitFor();
  console.log(`shown as stuck after ${Date.now() - started} ms`);
  await until("the actor to go on", async () => (await state("behavior_recorder")) === "running");

  await node("retry_scheduler").click();
  const panel = page.locator("dialog.panel");
  await panel.getByRole("button", { name: "Pause" }).click();
  await confirm(page, "Pause");
  await panel.getByRole("button", { name: "Resume" }).waitFor();
  await isAccessible(page, "the panel of an actor");
  assert.equal(await state("retry_scheduler"), "paused");
  await panel.getByRole("button", { name: "Resume" }).click();
  await confirm(page, "Resume");
  await panel.getByRole("button", { name: "Pause" }).waitFor();
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });

  for (const view of ["overview", "events", "find", "jobs", "audit", "stream", "dependencies", "quarantine", "operations"]) {
    await page.goto(`${process.env.URL}/admin#/${view}`);
    await page.locator("main h1").waitFor();
    await page.locator(".waiting").waitFor({ state: "detached" });
    await isAccessible(page, view);
  }
});
