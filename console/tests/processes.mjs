// The whole deployment: an actor of another process is paused and resumed, and a killed process is shown with its last words.
import { confirm, inBrowser, isAccessible, until } from "./browser.mjs";

await inBrowser(async (open) => {
  const page = await open("/admin");
  const chips = page.locator(".flow-card .processes .chip");
  await until("all processes", async () => (await chips.count()) === 4 || (await chips.allInnerTexts()));
  // Nodes of all processes together: neither the api nor a worker alone has both.
  for (const name of ["event_publisher", "nats_subscriber"]) {
    await page.locator(`[data-node='${name}'][data-state='running']`).waitFor();
  }

  await page.goto(`${process.env.URL}/admin#/actors/retry_scheduler`);
  const panel = page.locator("dialog.panel");
  const worker = panel.locator(".chip", { hasText: process.env.WORKER });
  await worker.click();
  await worker.and(page.locator("[aria-current=true]")).waitFor();
  await panel.getByRole("button", { name: "Pause" }).click();
  await confirm(page, "Pause");
  await panel.getByRole("button", { name: "Resume" }).click();
  await confirm(page, "Resume");
  await panel.getByRole("button", { name: "Pause" }).waitFor();
  await page.keyboard.press("Escape");
  await panel.waitFor({ state: "detached" });

  const gone = page.locator(".flow-card .chip", { hasText: process.env.KILLED });
  await until("the killed process to be gone", async () => /gone/.test(await gone.innerText()));
  await page.locator(".problems", { hasText: "is gone" }).waitFor();
  await gone.click();
  await page.locator(".history li", { hasText: "nats subscriber" }).waitFor();
  await page.locator(".flow-card", { hasText: "sends no reports" }).waitFor();
  await isAccessible(page, "the last words of a process");
});
