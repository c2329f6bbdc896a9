// Pictures of both pages of a running service, on phone and desktop, light and dark, to look at:
// URL=http://127.0.0.1:8080 CHROMIUM=$(command -v chromium) OUT=/tmp/pictures npm run screenshots
import { mkdirSync } from "node:fs";
import { inBrowser, send } from "./browser.mjs";

const folder = process.env.OUT ?? "pictures";
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };

/** Lets the flow have something to show. */
let isBusy = true;
async function crowd() {
  while (isBusy) {
    const user = 1_000_000 + Math.floor(Math.random() * 1_000_000);
    await send("PUT", `/v1/videos/${1 + (user % 3)}/like`, { "X-User-Id": String(user) });
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}

mkdirSync(folder, { recursive: true });
const likes = crowd();
await inBrowser(async (open) => {
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ["light", "dark"]) {
      const options = { viewport, colorScheme, deviceScaleFactor: size === "phone" ? 2 : 1 };
      const home = await open("/", options);
      await home.locator(".like:enabled").first().click();
      await home.locator(".journey[data-done=true]").waitFor();
      await home.waitForTimeout(2_500);
      await home.screenshot({ path: `${folder}/home-${size}-${colorScheme}.png`, fullPage: true });
      const admin = await open("/admin", options);
      await admin.locator(".arrows .busy").first().waitFor();
      await admin.waitForTimeout(5_000);
      await admin.screenshot({ path: `${folder}/admin-${size}-${colorScheme}.png`, fullPage: size === "phone" });
    }
  }
  isBusy = false;
  await likes;
});
