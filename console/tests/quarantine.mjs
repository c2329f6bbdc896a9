// A message that could not be decoded is mended and arrives, with all digits of its ids. Others are republished by a filter, as
// a job that can be cancelled.
import assert from "node:assert/strict";
import { confirm, inBrowser, isAccessible, send, shown } from "./browser.mjs";

const workers = process.env.WORKERS.split(" ");

await inBrowser(async (open) => {
  const page = await open("/admin#/quarantine");
  const job = page.locator(".job-progress");
  const bar = page.getByRole("group", { name: "Actions" });

  await page.getByLabel("Reason contains").fill("an OLD program");
  await page.getByRole("button", { name: "Filter" }).click();
  await shown(page, "quarantine?reason=an+OLD+program");
  await page.locator("tbody tr").nth(24).waitFor();
  // Cancelled before a worker takes it, nothing changes.
  for (const id of workers) await send("POST", `/admin/actors/job_runner/pause?process=${id}`);
  await bar.getByRole("button", { name: "Discard all" }).click();
  await page.locator(".dry-run", { hasText: "Discards 25 messages: 25 unresolved." }).waitFor();
  await confirm(page, "Discard 25 messages");
  await job.locator("[data-state=queued]").waitFor();
  await job.getByRole("button", { name: "Cancel" }).click();
  await confirm(page, "Cancel the job");
  await job.locator("[data-state=cancelled]").waitFor();
  await job.getByRole("button", { name: "Close" }).click();
  for (const id of workers) await send("POST", `/admin/actors/job_runner/resume?process=${id}`);

  const dry = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/admin/jobs"));
  await bar.getByRole("button", { name: "Republish all" }).click();
  assert.deepEqual((await dry).postDataJSON(), { kind: "republish", messages: { reason: "an OLD program" }, dry_run: true });
  await page.locator(".dry-run", { hasText: "Republishes 25 messages: 25 unresolved." }).waitFor();
  await confirm(page, "Republish 25 messages");
  await job.locator("[data-state=completed]").waitFor();
  assert.match(await job.innerText(), /25 of 25 done, 24 changed/);
  // One is still no event, and stays. A page of them is one.
  await page.locator("tbody tr").nth(1).waitFor({ state: "detached" });
  await page.locator("tbody tr").first().waitFor();
  assert.equal(await page.locator("tbody tr").count(), 1);
  await page.locator("tbody [type=checkbox]").check();
  await bar.getByRole("button", { name: "Discard" }).click();
  await confirm(page, "Discard");
  await page.getByText("There is no such message.").waitFor();

  await page.goto(`${process.env.URL}/admin#/quarantine`);
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
