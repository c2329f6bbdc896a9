// A message that could not be decoded is mended and arrives, with all digits of its ids.
import assert from "node:assert/strict";
import { confirm, inBrowser, isAccessible } from "./browser.mjs";

await inBrowser(async (open) => {
  const page = await open("/admin#/quarantine");
  await page.locator("tbody tr", { hasText: "vidio" }).getByRole("link").click();
  const payload = page.locator("textarea");
  const text = await payload.inputValue();
  assert.match(text, /"user_id": 9007199254740993\b/);
  await payload.fill(text.replace("vidio", "video"));
  await isAccessible(page, "a message in quarantine");
  await page.getByRole("button", { name: "Republish" }).click();
  await confirm(page, "Republish");
  await page.getByRole("link", { name: "Follow the event" }).click();
  await page.locator(".steps [data-step=completed]").waitFor();
  await page.locator(".facts", { hasText: "9007199254740993" }).waitFor();

  await page.goto(`${process.env.URL}/admin#/quarantine`);
  await page.getByText("Nothing is in quarantine.").waitFor();
});
