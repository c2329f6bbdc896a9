// Dead letters: found by a filter, one looked at and retried, a page of them, and all that match by a job that can be cancelled.
// Nothing moves while rows are selected.
import assert from "node:assert/strict";
import { confirm, inBrowser, isAccessible, send, shown, until } from "./browser.mjs";

const USER = "9007199254740993";
const DEAD = "/admin/webhooks/dead?";

await inBrowser(async (open) => {
  const page = await open();
  // Time passes as usual, and can be turned forward.
  await page.clock.install();
  await page.goto(`${process.env.URL}/admin/#/webhooks`);
  assert.equal(new URL(page.url()).pathname, "/admin", "the address without a slash");
  const rows = page.getByRole("region", { name: "Dead letters" }).locator("tbody tr");
  const shows = (number) => until(`${number} rows`, async () => (await rows.count()) === number || (await rows.count()));
  await page.getByRole("region", { name: "Receivers" }).locator("tr", { hasText: "search.example.com" }).locator("td", { hasText: "120" }).waitFor();
  await shows(50);
  await isAccessible(page, "webhooks");

  // One, with all digits of its user.
  await page.getByLabel("User").fill(USER);
  await page.getByRole("button", { name: "Filter" }).click();
  await shown(page, `webhooks?user_id=${USER}`);
  await shows(1);
  await rows.getByRole("link").click();
  const facts = page.locator(".facts");
  await facts.filter({ hasText: USER }).waitFor();
  await facts.filter({ hasText: "the receiver answered 422" }).filter({ hasText: "20" }).waitFor();
  await isAccessible(page, "a dead letter");
  await page.getByRole("button", { name: "Retry" }).click();
  await confirm(page, "Retry");
  await page.getByText("It was sent again.").waitFor();

  // What is selected does not move, and nothing is asked meanwhile.
  await page.goto(`${process.env.URL}/admin#/webhooks?error=ANSWERED+500`);
  await shows(50);
  let asked = 0;
  page.on("request", (request) => (asked += request.url().includes(DEAD) ? 1 : 0));
  await page.clock.runFor(10_000);
  await until("the list to be renewed", async () => asked > 0);
  await rows.nth(0).getByRole("checkbox").check();
  await rows.nth(1).getByRole("checkbox").check();
  await page.getByText("2 selected").waitFor();
  asked = 0;
  await page.clock.runFor(30_000);
  assert.equal(asked, 0, "the list was renewed while rows were selected");
  const bar = page.getByRole("group", { name: "Actions" });
  await bar.getByRole("button", { name: "Retry" }).click();
  await confirm(page, "Retry");
  await page.getByText("2 dead letters sent again").waitFor();
  await page.clock.runFor(10_000);
  await until("the list to be renewed again", async () => asked > 0);

  // All that match: cancelled before a worker takes it, nothing changes.
  await send("POST", "/admin/actors/job_runner/pause");
  const dry = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/admin/jobs"));
  await bar.getByRole("button", { name: "Discard all" }).click();
  assert.deepEqual((await dry).postDataJSON(), { kind: "discard_webhooks", dead_letters: { error: "ANSWERED 500" }, dry_run: true });
  await page.locator(".dry-run", { hasText: "Discards 57 dead letters: 57 https://search.example.com/likes." }).waitFor();
  await confirm(page, "Discard 57 dead letters");
  const job = page.locator(".job-progress");
  await job.locator("[data-state=queued]").waitFor();
  await job.getByRole("button", { name: "Cancel" }).click();
  await confirm(page, "Cancel the job");
  await job.locator("[data-state=cancelled]").waitFor();
  assert.match(await job.innerText(), /0 of 57 done, 0 changed/);
  await job.getByRole("button", { name: "Close" }).click();
  await send("POST", "/admin/actors/job_runner/resume");

  await bar.getByRole("button", { name: "Retry all" }).click();
  await confirm(page, "Retry 57 dead letters");
  await job.locator("[data-state=completed]").waitFor();
  assert.match(await job.innerText(), /57 of 57 done, 57 changed/);
  await page.getByText("No dead letter matches.").waitFor();
  await page.goto(`${process.env.URL}/admin#/webhooks`);
  await shows(50);
  await page.getByRole("button", { name: "Load more" }).click();
  await shows(60);
});
