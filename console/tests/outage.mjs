// What the pages show while the service hangs with its connections open, and afterwards.
import assert from "node:assert/strict";
import { inBrowser } from "./browser.mjs";

const service = Number(process.env.PROCESS);

await inBrowser(async (open) => {
  const [home, page] = [await open("/"), await open("/admin")];
  const notice = page.locator("main > .notice.error", { hasText: "No report has come since" });
  await page.locator("[data-node='behavior_recorder'][data-state='running']").waitFor();
  const up = home.locator(".aside [data-state='up']");
  await up.first().waitFor();
  assert.equal(await notice.count(), 0);
  process.kill(service, "SIGSTOP");
  try {
    await notice.waitFor();
    for (const nodes of [".flow", ".beside"]) {
      assert.equal(await page.locator(nodes).evaluate((all) => getComputedStyle(all).filter), "grayscale(1)", nodes);
    }
    assert.match(await notice.innerText(), /the service does not answer\. What is shown is its last report\./);
    await up.first().waitFor({ state: "detached" });
    await home.locator(".notice.error", { hasText: "the service does not answer" }).waitFor();
  } finally {
    process.kill(service, "SIGCONT");
  }
  await notice.waitFor({ state: "detached" });
  await up.first().waitFor();
  await home.locator(".notice.error").waitFor({ state: "detached" });
});
