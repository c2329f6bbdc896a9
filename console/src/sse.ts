// Server-Sent Events over `fetch`: unlike `EventSource`, it can send a token.

import { Refused } from "./api";
import { parse } from "./json";

export interface ServerEvent {
  id: string;
  type: string;
  data: unknown;
}

/**
 * Calls `listener` for each event until the connection ends. Returns whether it is worth to connect again: a service
 * without this path answers 404.
 */
export async function events(
  path: string,
  headers: Record<string, string>,
  signal: AbortSignal,
  listener: (event: ServerEvent) => void,
): Promise<boolean> {
  const response = await fetch(path, { signal, headers: { ...headers, Accept: "text/event-stream" } });
  const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
  if (response.status === 404 || (response.ok && !isStream)) return false;
  if (!response.ok) {
    const problem = parse(await response.text());
    throw new Refused(response.status, problem.code, problem.detail);
  }
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return true;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop()!;
    for (const block of blocks) {
      const event = read(block);
      if (event) listener(event);
    }
  }
}

/**
 * Waits until the page is visible, and returns a signal of when it is hidden again. A browser opens six connections to a
 * service, so hidden pages must not hold one.
 */
export async function shown(signal: AbortSignal): Promise<AbortSignal> {
  while (document.hidden && !signal.aborted) {
    await new Promise((resolve) => {
      document.addEventListener("visibilitychange", resolve, { once: true });
      signal.addEventListener("abort", resolve, { once: true });
    });
  }
  const hidden = new AbortController();
  document.addEventListener("visibilitychange", () => hidden.abort(), { once: true, signal: hidden.signal });
  return AbortSignal.any([signal, hidden.signal]);
}

/** An event from its lines; none if it has no data, as a comment that keeps the connection open. */
function read(block: string): ServerEvent | undefined {
  const event = { id: "", type: "message", data: undefined as unknown };
  const data: string[] = [];
  for (const line of block.split(/\r?\n/)) {
    const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (field === "data") data.push(value);
    else if (field === "id") event.id = value;
    else if (field === "event") event.type = value;
  }
  if (data.length === 0) return undefined;
  return { ...event, data: parse(data.join("\n")) };
}
