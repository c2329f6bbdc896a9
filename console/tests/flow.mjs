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

  await send("POST", "/admin/actors/cache_writer/pause");
  await page.locator("[data-node='api']", { hasText: "not ready: cache_writer is paused" }).waitFor();
  const dependencies = await open("/admin#/dependencies");
  await dependencies.getByText("The process cannot make a like durable now: cache_writer is paused.").waitFor();
  await send("POST", "/admin/actors/cache_writer/resume");
  await page.locator("[data-node='api']", { hasText: "accepts likes" }).waitFor();

  // Rows that the scheduler claims are no messages of the recorder. An actor that only fails does not look idle.
  const report = await (await fetch(`${url}/admin/actors`)).json();
  const later = (seconds) => {
    const next = structuredClone(report);
    next.sequence += seconds;
    next.uptime_seconds += seconds;
    const actor = (name) => next.actors.find((one) => one.name === name);
    actor("retry_scheduler").processed += 5 * seconds;
    actor("sync_publisher").errors += 2 * seconds;
    const { messages } = actor("sync_publisher");
    messages.push({ ...messages[0], type: "Sync", received: 5 * seconds });
    return `data: ${JSON.stringify(next)}\n\n`;
  };
  const retries = await open();
  await retries.route(/\/admin\/actors/, (route) => route.abort());
  await retries.route(/\/admin\/live/, (route) => route.fulfill({ contentType: "text/event-stream", body: later(0) + later(1) }));
  await retries.goto(`${url}/admin`);
  const arrow = (from) => retries.locator(`[data-edge='${from} sync_publisher'] text`);
  await until("claims on their arrow", async () => (await arrow("retry_scheduler").textContent()) === "5.0/s");
  assert.equal(await arrow("behavior_recorder").textContent(), "0/s");
  await retries.locator("[data-node='sync_publisher']", { hasText: "2.0 failures/s" }).waitFor();

  // A narrow screen shows each node, too.
  const phone = await open("/admin", { viewport: { width: 390, height: 844 } });
  await phone.locator("[data-node='behavior_recorder']").waitFor();
  const hidden = phone.locator(".flow [data-node]:not(:visible)");
  assert.deepEqual(await hidden.evaluateAll((all) => all.map((one) => one.dataset.node)), []);

  // A malformed address is a view that does not exist, not an empty page.
  await page.goto(`${url}/admin#/%`);
  await page.getByRole("heading", { name: "Not found" }).waitFor();

  // What has not been told is not known.
  const unknown = await open();
  await unknown.route(/\/readyz|\/admin\/ledger/, (route) => route.abort());
  await unknown.goto(`${url}/admin`);
  await unknown.locator("[data-node='behavior_recorder']").waitFor();
  for (const name of ["api", "cache", "database"]) {
    assert.equal(await unknown.locator(`[data-node='${name}']`).getAttribute("data-state"), "unknown", name);
  }
  assert.equal((await unknown.locator(".figure", { hasText: "Open rows" }).innerText()).trim(), "Open rows\n–");

  // A service that does not answer is not shown as one that works.
  const lost = await open();
  let isDown = true;
  await lost.route(/\/admin\/(live|actors)/, (route) => (isDown ? route.abort() : route.continue()));
  await lost.goto(`${url}/admin`);
  const notice = lost.locator("main > .notice.error", { hasText: "No report has come since" });
  await notice.waitFor();
  assert.match(await notice.innerText(), /the service does not answer/);
  assert.equal(await lost.locator("main .notice.error").count(), 1);
  isDown = false;
  await notice.waitFor({ state: "detached" });
  await lost.locator("[data-node='behavior_recorder']").waitFor();

  for (const name of ["overview", "events", "find", "jobs", "audit", "stream", "dependencies", "quarantine", "operations", "webhooks", "likes"]) {
    await view(page, name);
    await isAccessible(page, name);
    const endless = page.locator("input:not([type=checkbox], [type=datetime-local], [maxlength])");
    assert.deepEqual(await endless.evaluateAll((all) => all.map((one) => one.name)), [], name);
  }
});
