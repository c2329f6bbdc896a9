// The console without a mouse: the skip link, views that announce themselves, rows, and questions that give the focus back.
import assert from "node:assert/strict";
import { inBrowser, shown, until } from "./browser.mjs";

await inBrowser(async (open) => {
  const page = await open("/admin#/jobs");
  await page.locator("main h1").waitFor();
  const focused = (what) => page.evaluate(what);
  const isFocused = (locator) => locator.evaluate((one) => one === document.activeElement);
  const press = (key) => page.keyboard.press(key);

  await press("Tab");
  assert.equal(await focused(() => document.activeElement.textContent), "Skip to the content");
  await press("Enter");
  assert.equal(await focused(() => document.activeElement.id), "main");

  // A view begins at its heading, which a screen reader reads.
  const begins = (title) => until(`the heading ${title} to have the focus`, () => isFocused(page.locator("main h1", { hasText: title })));
  await page.getByRole("link", { name: "Events", exact: true }).focus();
  await press("Enter");
  await begins("Events");
  assert.equal(await page.title(), "Events · Likewise");

  await page.getByRole("link", { name: "failed", exact: true }).focus();
  await press("Enter");
  await shown(page, "events?status=failed");
  const box = page.locator("tbody [type=checkbox]").first();
  await box.focus();
  await press("Space");
  await page.getByText("1 selected").waitFor();
  await press("Space");

  const retry = page.getByRole("button", { name: "Retry all" });
  await retry.focus();
  await press("Enter");
  const dialog = page.locator("dialog.confirm[open]");
  await dialog.waitFor();
  // The focus stays in the question.
  for (let tabs = 0; tabs < 6; tabs += 1) {
    await press("Tab");
    assert.equal(await focused(() => document.activeElement === document.body || document.activeElement.closest("dialog") !== null), true);
  }
  await press("Escape");
  await dialog.waitFor({ state: "detached" });
  await until("the button to have the focus again", () => isFocused(retry));

  await page.getByRole("link", { name: "Overview", exact: true }).focus();
  await press("Enter");
  await begins("Overview");
  const node = page.locator("[data-node='cache_writer']");
  await node.focus();
  await press("Enter");
  const panel = page.locator("dialog.panel[open]");
  await panel.waitFor();
  assert.equal(await focused(() => document.activeElement.closest("dialog") !== null), true);
  await press("Escape");
  await panel.waitFor({ state: "detached" });
});
