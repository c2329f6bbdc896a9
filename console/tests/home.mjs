// The front page: a like in one tab moves the count in the other, and both show how its event travels.
import assert from "node:assert/strict";
import { inBrowser, isAccessible, until, url } from "./browser.mjs";

const stations = process.env.STATIONS.split(" ");

await inBrowser(async (open) => {
  const [one, other] = [await open("/"), await open("/")];
  const user = (page) => page.locator(".hero b").innerText();
  assert.notEqual(await user(one), await user(other));

  const like = (page) => page.locator("[data-video='2'] .like");
  const count = (page) => like(page).locator(".count").innerText();
  for (const page of [one, other]) await until("a count", async () => (await count(page)) === "0");
  // The count may change before the event is recorded.
  let early = 2;
  await other.route("**/admin/ledger/events?*", (route) => (early-- > 0 ? route.fulfill({ json: { events: [] } }) : route.continue()));
  await like(one).click();
  for (const page of [one, other]) await until("the like to count in both tabs", async () => (await count(page)) === "1");
  assert.equal(await like(one).getAttribute("aria-pressed"), "true");
  assert.equal(await like(other).getAttribute("aria-pressed"), "false");

  for (const page of [one, other]) {
    await page.locator(".journey[data-done=true]").waitFor();
    const reached = page.locator(".track .reached");
    const names = await reached.evaluateAll((all) => all.map((one) => one.dataset.station));
    assert.deepEqual(names, stations);
  }
  const event = (page) => page.locator(".journey").getAttribute("data-event");
  assert.equal(await event(one), await event(other));
  assert.match(await one.locator(".journey-head").innerText(), /You liked Rain on the city/);
  assert.match(await other.locator(".journey-head").innerText(), /User \d+ liked Rain on the city/);

  await like(one).click();
  await until("the unlike to count in the other tab", async () => (await count(other)) === "0");
  await isAccessible(one, "/");

  // A service that refuses at first, and shows counts as soon as it answers, although nobody likes anything.
  const refused = await open();
  let refusals = 0;
  await refused.route("**/v1/likes/status", (route) => {
    refusals += 1;
    return refusals > 5 ? route.continue() : route.fulfill({ status: 503, contentType: "application/problem+json", body: '{"code":"paused","detail":"paused by an operator"}' });
  });
  await refused.goto(url);
  await refused.locator(".notice.error").waitFor();
  await until("a count after refusals", async () => (await count(refused)) === "0");
  assert.equal(await refused.locator(".notice.error").count(), 0);

  // The journey of an own like is in view.
  const low = await open("/", { viewport: { width: 1366, height: 650 } });
  await low.locator("[data-video='1'] .like:enabled").click();
  await low.locator(".track").waitFor();
  await until("the journey to be in view", () =>
    low.evaluate(() => document.querySelector(".track").getBoundingClientRect().bottom <= innerHeight));
  const phone = await open("/", { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
  await phone.locator(".like:enabled").first().waitFor();
  const isWithin = await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  assert.ok(isWithin, "the page is wider than the phone");
  await isAccessible(phone, "/ on a phone");
  await phone.locator("[data-video='1'] .like").click();
  await phone.locator(".journey[data-done=true]").waitFor();
  await until("the journey to be in view on a phone", () =>
    phone.locator("[aria-label='The last like']").evaluate((journey) => {
      const { top, bottom } = journey.getBoundingClientRect();
      return (top >= 0 && bottom < innerHeight) || [top, bottom];
    }));
});
