// Hooks that several views share.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { message, request } from "./api";

/** The route in the fragment of the address: a path, and parameters that a link keeps. */
export interface Route {
  /** The fragment as the address has it; `main` bears it as soon as it shows the view. */
  hash: string;
  path: string[];
  parameters: URLSearchParams;
}

/** Decodes a part of an address; one that is malformed stays as it is. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function route(): Route {
  const { hash } = location;
  const [path = "", parameters = ""] = hash.replace(/^#\/?/, "").split("?");
  return { hash, path: path.split("/").filter(Boolean).map(decoded), parameters: new URLSearchParams(parameters) };
}

export function useRoute(): Route {
  const [current, setCurrent] = useState(route);
  useEffect(() => {
    const listener = () => setCurrent(route());
    addEventListener("hashchange", listener);
    return () => removeEventListener("hashchange", listener);
  }, []);
  return current;
}

/** A link to a view of the console. */
export function link(path: string, parameters: Record<string, string | undefined> = {}): string {
  const given = Object.entries(parameters).filter((entry): entry is [string, string] => Boolean(entry[1]));
  const query = new URLSearchParams(given).toString();
  return `#/${path}${query && `?${query}`}`;
}

export interface Answer<T> {
  value?: T;
  error: string;
  isLoading: boolean;
  /** Asks again now. */
  reload: () => void;
}

/** After a reload, so many answers come sooner: what an operator did shows its effect within seconds. */
const SOON = { answers: 3, ms: 1_000 };

/**
 * Asks for a path now and every `everyMs`, while the page is visible and nothing is selected. A path of `null` asks for
 * nothing.
 */
export function useQuery<T>(path: string | null, everyMs = 0, isPaused = false, accept: number[] = []): Answer<T> {
  const [state, setState] = useState<{ path: string | null; value?: T; error: string }>({ path, error: "" });
  const [round, setRound] = useState(0);
  const paused = useRef(isPaused);
  paused.current = isPaused;
  useEffect(() => {
    if (path === null) return undefined;
    const controller = new AbortController();
    let timer = 0;
    let isFirst = true;
    let soon = round > 0 ? SOON.answers : 0;
    const ask = async () => {
      try {
        const value = await request<T>(path, { signal: controller.signal, accept });
        // What was selected while the answer was on its way stays where it is.
        if (isFirst || !paused.current) setState({ path, value, error: "" });
        isFirst = false;
      } catch (error) {
        if (controller.signal.aborted) return;
        setState((before) => ({ path, value: before.path === path ? before.value : undefined, error: message(error) }));
      }
      if (everyMs > 0) timer = window.setTimeout(again, soon > 0 ? Math.min(everyMs, SOON.ms) : everyMs);
      soon -= 1;
    };
    const again = () => {
      if (document.hidden || paused.current) timer = window.setTimeout(again, 500);
      else void ask();
    };
    void ask();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [path, everyMs, round]);
  const reload = useCallback(() => setRound((round) => round + 1), []);
  const current = state.path === path ? state : { value: undefined, error: "" };
  return {
    value: current.value,
    error: current.error,
    isLoading: path !== null && current.value === undefined && !current.error,
    reload,
  };
}

/** The current time, renewed every `ms`, for views that show how long ago something was. */
export function useClock(ms = 1_000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), ms);
    return () => clearInterval(timer);
  }, [ms]);
  return now;
}
