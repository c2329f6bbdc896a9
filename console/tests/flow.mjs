// The overview: likes move the arrows, and an actor that panics or blocks shows within seconds and recovers.
import assert from "node:assert/strict";
import { EVERY_MS, confirm, inBrowser, isAccessible, send, until, url, view } from "./browser.mjs";

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

  /**
   * Injects a fault until one is shown within two seconds, and the time that a busy machine kept this test waiting. It may miss
   * some; a console that is too slow misses all.
   */
  const isShownSoon = async (fault, actor, shown) => {
    const problems = async () => (await page.locator(".problems").allInnerTexts()).join();
    const times = [];
    let isSoon = false;
    while (!isSoon) {
      assert.ok(times.length < 6, `a ${fault} was shown after ${times} ms`);
      await send("POST", `/admin/faults/${fault}/${actor}`);
      const before = await problems();
      // It begins with a message; nobody waits for the answer.
      void like().catch(() => {});
      const started = Date.now();
      let [last, late] = [started, 0];
      await until(`the ${fault} to be shown`, async () => {
        const now = Date.now();
        late += Math.max(0, now - last - EVERY_MS);
        last = now;
        return shown(await problems(), before);
      });
      times.push(Date.now() - started);
      isSoon = times.at(-1) <= 2_000 + late;
      await until("the actor to recover", async () => {
        await like().catch(() => {});
        return (await state(actor)) === "running";
      });
    }
    console.log(`a ${fault} was shown after ${times} ms`);
  };
  await isShownSoon("panic", "cache_writer", (now, before) => now !== before && now.includes("cache writer"));
  await isShownSoon("block", "behavior_recorder", (now) => now.includes("is stuck"));

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

  // A malformed address is a view that does not exist, not an empty page.
  await page.goto(`${url}/admin#/%`);
  await page.getByRole("heading", { name: "Not found" }).waitFor();

  // A service that does not answer is not shown as one that works.
  const lost = await open();
  let isDown = true;
  await lost.route(/\/admin\/(live|actors)/, (route) => (isDown ? route.abort() : route.continue()));
  await lost.goto(`${url}/admin`);
  const notice = lost.locator("main > .notice.error", { hasText: "No report has come since" });
  await notice.waitFor();
  assert.match(await notice.innerText(), /the service does not answer/);
  isDown = false;
  await notice.waitFor({ state: "detached" });
  await lost.locator("[data-node='behavior_recorder']").waitFor();

  for (const name of ["overview", "events", "find", "jobs", "audit", "stream", "dependencies", "quarantine", "operations", "webhooks", "likes"]) {
    await view(page, name);
    await isAccessible(page, name);
  }
});
