// 500 failed events are found by a filter, counted by a dry run and retried by a job; ids keep all their digits.
import assert from "node:assert/strict";
import { confirm, inBrowser, isAccessible, shown, until } from "./browser.mjs";

const USER = "9007199254740993";

await inBrowser(async (open) => {
  const page = await open("/admin#/events");
  await page.getByRole("link", { name: "failed", exact: true }).click();
  await shown(page, "events?status=failed");
  await page.getByLabel("Error contains").fill("injected");
  await page.getByRole("button", { name: "Filter" }).click();
  await shown(page, "events?status=failed&error=injected");
  await until("a page of rows", async () => (await page.locator("tbody tr").count()) === 50);

  // What is selected does not move.
  await page.locator("tbody input").first().check();
  await page.getByText("1 selected").waitFor();
  await page.getByRole("button", { name: "Clear" }).click();

  // A retry shows its effect soon: the list asks at once, and again every second for a while.
  const asked = [];
  page.on("request", (request) => request.url().includes("/admin/ledger/events?") && asked.push(Date.now()));
  await page.locator("tbody input").first().check();
  await page.locator(".bar").getByRole("button", { name: "Retry" }).click();
  await page.getByText("It is tried again at once, and its failed attempts no longer count.").waitFor();
  await confirm(page, "Retry");
  asked.length = 0;
  await until("the list to ask again", async () => asked.length >= 4);
  assert.ok(asked[3] - asked[0] < 9_000, `questions at ${asked}`);

  const dry = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/admin/jobs"));
  await page.getByRole("button", { name: "Retry all" }).click();
  assert.deepEqual((await dry).postDataJSON(), { kind: "retry", filter: { status: "failed", error: "injected" }, dry_run: true });
  await page.locator(".dry-run", { hasText: "Retries 499 events: 499 failed." }).waitFor();
  await isAccessible(page, "the question");
  await page.locator("dialog.confirm [name=operator]").fill("ada");
  await confirm(page, "Retry 499 events");
  await page.locator(".job-progress [data-state=completed]").waitFor();
  assert.match(await page.locator(".job-progress").innerText(), /499 of 499 done, 499 changed/);
  await page.goto(`${process.env.URL}/admin#/jobs?kind=retry`);
  await page.locator("tbody tr", { hasText: "ada" }).waitFor();
  await page.goto(`${process.env.URL}/admin#/operations?operator=ada`);
  await page.locator("tbody tr", { hasText: "create" }).waitFor();
  await page.goto(`${process.env.URL}/admin#/events?status=failed`);
  await page.getByText("No event matches.").waitFor();

  // A reload keeps the view; the id is exact.
  await page.goto(`${process.env.URL}/admin#/find?user_id=${USER}`);
  await page.reload();
  await page.locator(".steps [data-step=completed]").waitFor();
  await page.getByRole("link", { name: "Everything of this event" }).click();
  await page.locator(".facts", { hasText: USER }).waitFor();
  await isAccessible(page, "an event");

  // A shade shows that a table goes on beside the screen, until it has been scrolled to its end.
  const phone = await open("/admin#/events", { viewport: { width: 390, height: 844 } });
  await phone.locator("tbody tr").first().waitFor();
  const table = phone.locator(".table");
  const edge = async () => {
    const { x, y, width } = await table.boundingBox();
    // The padding of the head has no text.
    return (await phone.screenshot({ clip: { x: x + width - 6, y: y + 3, width: 4, height: 2 } })).toString("base64");
  };
  const atStart = await edge();
  await table.evaluate((one) => (one.scrollLeft = one.scrollWidth));
  await until("the shade to go", async () => (await edge()) !== atStart);
  const isWithin = await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  assert.ok(isWithin, "the page is wider than the phone");
});
