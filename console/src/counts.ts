// The like counts of a few resources, kept current: pushed by the service if it can, else asked for once a second.

import { headers, request } from "./api";
import { events, shown } from "./sse";

export interface Status {
  liked: boolean | null;
  like_count: number | null;
}

interface Page {
  items: ({ resource_id: number | string } & Status)[];
}

const EVERY_MS = 1_000;
/** The shortest time between two questions. */
const PACE_MS = 150;

/** Waits so many milliseconds. */
export const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Reads what a user likes of these resources, and their counts. */
export async function statuses(type: string, ids: string[], user: string): Promise<Map<string, Status>> {
  // Ids are written as the service writes them: only numbers stand without quotes.
  const items = ids.map((id) => ({ resource_type: type, resource_id: /^\d+$/.test(id) ? Number(id) : id }));
  const page = await request<Page>("v1/likes/status", { method: "POST", body: { items }, user });
  return new Map(page.items.map((item) => [String(item.resource_id), item]));
}

/**
 * Calls `changed` when a count may have changed, until the signal: never twice at once, and not more often than needed. It
 * tells whether it succeeded; after a failure it is called again.
 */
export async function watch(type: string, ids: string[], signal: AbortSignal, changed: () => Promise<boolean>): Promise<void> {
  let isDue = false;
  let isRunning = false;
  const notice = async () => {
    isDue = true;
    if (isRunning) return;
    isRunning = true;
    while (isDue && !signal.aborted) {
      isDue = false;
      const isCurrent = await changed();
      if (!isCurrent) isDue = true;
      await pause(isCurrent ? PACE_MS : EVERY_MS);
    }
    isRunning = false;
  };
  const path = `v1/likes/live?resources=${ids.map((id) => encodeURIComponent(`${type}:${id}`)).join()}`;
  void notice();
  let isPushed = true;
  while (!signal.aborted) {
    const whileShown = await shown(signal);
    try {
      if (isPushed) isPushed = await events(path, headers(path), whileShown, () => void notice());
    } catch {
      // The next round tells whether the service answers.
    }
    if (!signal.aborted) void notice();
    await pause(EVERY_MS);
  }
}
