// Likes of a user are voided after a preview, with a reason, by somebody, and restored.
import assert from "node:assert/strict";
import { confirm, inBrowser, isAccessible, shown, until } from "./browser.mjs";

const USER = "9007199254740993";
const count = async (path) => (await (await fetch(`${process.env.URL}/v1/${path}/likes/count`)).json()).like_count;

await inBrowser(async (open) => {
  const page = await open("/admin#/likes");
  await page.getByText("No likes were voided yet.").waitFor();
  await page.getByLabel("User", { exact: true }).fill(USER);
  await page.getByRole("button", { name: "Show likes" }).click();
  const counted = page.locator("[data-preview=void]");
  const voided = page.locator("[data-preview=restore]");
  await counted.getByText("1 comment, 3 video").waitFor();
  await voided.getByText("No like of the user is voided here.").waitFor();
  await isAccessible(page, "likes of a user");

  await page.locator("[name=resource_type]").selectOption("video");
  await page.getByRole("button", { name: "Show likes" }).click();
  await shown(page, `likes?user_id=${USER}&resource_type=video`);
  await counted.getByRole("button", { name: "Void 3 likes" }).click();
  await page.locator("dialog.confirm [name=operator]").fill("ada");
  await isAccessible(page, "the question");
  await confirm(page, "Void 3 likes", "a click farm");
  await page.locator(".job-progress [data-state=completed]").waitFor();
  assert.match(await page.locator(".job-progress").innerText(), /3 of 3 done, 3 changed/);
  await voided.getByRole("button", { name: "Restore 3 likes" }).waitFor();
  await counted.getByText("The user has no likes here that count.").waitFor();
  assert.equal(await count("videos/1"), 0);
  assert.equal(await count("comments/1"), 1);
  const decision = page.getByRole("region", { name: "Decisions" }).locator("tbody tr");
  await decision.filter({ hasText: "a click farm" }).filter({ hasText: "ada" }).filter({ hasText: USER }).filter({ hasText: "completed" }).waitFor();

  await voided.getByRole("button", { name: "Restore 3 likes" }).click();
  await confirm(page, "Restore 3 likes", "it was a class of students");
  await counted.getByRole("button", { name: "Void 3 likes" }).waitFor();
  assert.equal(await count("videos/1"), 1);
  await until("both decisions", async () => (await decision.count()) === 2);
  // Nothing was decided about another user.
  await page.goto(`${process.env.URL}/admin#/likes?user_id=2`);
  await page.getByText("Nothing was decided about the likes of user 2.").waitFor();
});
