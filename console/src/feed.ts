// The live reports of the actors of every process. The process that serves the page pushes its own; those of the others
// are asked for once a second. Rates come from the difference of two reports, since their counters only grow.

import { useEffect, useState } from "preact/hooks";
import { type Actor, type Deployment, Refused, type Snapshot, UNREACHABLE, about, headers, message, request } from "./api";
import { pause } from "./counts";
import { merged } from "./merge";
import { events, shown } from "./sse";

const EVERY_MS = 1_000;
/** The interval of the question whether there are other processes, while there are none. */
const ALONE_MS = 5_000;
/** A service that has sent no report for this time does not answer: it sends one a second, and when a state changes. */
const SILENT_MS = 6_000;
/** The reports of a process that are kept, which cover the seconds of a rate. */
const KEPT = 15;
/** Rates cover these seconds. */
const WINDOW_SECONDS = 5;

/** A process with its last reports, oldest first. */
export interface Process {
  id: string;
  host: string;
  role: string;
  version: string;
  is_this: boolean;
  state: "running" | "silent" | "gone" | "stopped";
  age_ms: number;
  snapshots: Snapshot[];
}

export interface Feed {
  processes: Process[];
  /** Why there are no newer reports, and since when, in milliseconds since 1970; absent while there are. */
  lost?: { why: string; since: number };
  /** Why other processes cannot be seen; empty if they can. */
  note: string;
}

const EMPTY: Feed = { processes: [], note: "" };

let feed: Feed = EMPTY;
const listeners = new Set<() => void>();
let running: AbortController | undefined;
/** When the process that serves the page was heard last, or first asked. */
let heardAt = 0;

function publish(next: Feed) {
  feed = next;
  for (const listener of listeners) listener();
}

/** Reports with one more, unless it is known. A process that started anew counts from zero. */
function extended(snapshots: Snapshot[], snapshot: Snapshot): Snapshot[] {
  const last = snapshots.at(-1);
  if (!last || snapshot.sequence < last.sequence) return [snapshot];
  return snapshot.sequence === last.sequence ? snapshots : [...snapshots.slice(1 - KEPT), snapshot];
}

/** Takes a report of the process that serves the page. */
function addOwn(snapshot: Snapshot) {
  const own = feed.processes.find((process) => process.is_this) ?? {
    id: "",
    host: location.host,
    role: about.role,
    version: about.version,
    is_this: true,
    state: "running" as const,
    age_ms: 0,
    snapshots: [],
  };
  const others = feed.processes.filter((process) => !process.is_this);
  heardAt = Date.now();
  publish({ ...feed, lost: undefined, processes: [{ ...own, snapshots: extended(own.snapshots, snapshot) }, ...others] });
}

/** Takes the reports of all processes. The own one is pushed more often, but names its process only here. */
function addAll({ processes, note }: Deployment) {
  const known = (id: string, is_this: boolean) =>
    feed.processes.find((process) => process.id === id || (is_this && process.is_this))?.snapshots ?? [];
  publish({
    ...feed,
    note: note ?? "",
    processes: processes.map(({ report, ...process }) => {
      const before = known(process.id, process.is_this);
      const snapshots = process.is_this && before.length > 0 ? before : extended(before, report);
      return { ...process, snapshots };
    }),
  });
}

/** Takes the reports that are pushed, until the connection ends or is silent. Returns whether reports are pushed at all. */
async function takePushed(signal: AbortSignal): Promise<boolean> {
  const silence = new AbortController();
  let timer = 0;
  const heard = () => {
    clearTimeout(timer);
    // The connection of a process that hangs stays open.
    timer = window.setTimeout(() => silence.abort(), SILENT_MS);
  };
  heard();
  try {
    return await events("admin/live", headers("admin/live"), AbortSignal.any([signal, silence.signal]), (event) => {
      heard();
      addOwn(event.data as Snapshot);
    });
  } finally {
    clearTimeout(timer);
  }
}

async function followOwn(signal: AbortSignal) {
  let isPushed = true;
  while (!signal.aborted) {
    const whileShown = await shown(signal);
    try {
      if (isPushed) {
        isPushed = await takePushed(whileShown);
      } else {
        addOwn(await request<Snapshot>("admin/actors", { signal }));
      }
    } catch (error) {
      const why = error instanceof Refused ? message(error) : UNREACHABLE;
      if (!whileShown.aborted) publish({ ...feed, lost: { why, since: feed.lost?.since ?? heardAt } });
    }
    await pause(EVERY_MS);
  }
}

async function followOthers(signal: AbortSignal) {
  while (!signal.aborted) {
    await shown(signal);
    try {
      addAll(await request<Deployment>("admin/actors?scope=cluster", { signal }));
    } catch {
      // `followOwn` tells that the service does not answer.
    }
    await pause(feed.processes.length > 1 ? EVERY_MS : ALONE_MS);
  }
}

/** Begins anew, for example with another token. */
export function restartFeed() {
  running?.abort();
  feed = EMPTY;
  heardAt = Date.now();
  running = new AbortController();
  void followOwn(running.signal);
  void followOthers(running.signal);
}

export function useFeed(): Feed {
  const [current, setCurrent] = useState(feed);
  useEffect(() => {
    const listener = () => setCurrent(feed);
    listeners.add(listener);
    listener();
    return () => void listeners.delete(listener);
  }, []);
  return current;
}

/** The processes whose reports are current. */
export const present = (feed: Feed) => feed.processes.filter((process) => process.state === "running" || process.state === "silent");

/** A feed of one process only, or the same of all. */
export function only(feed: Feed, id: string | undefined): Feed {
  return id === undefined ? feed : { ...feed, processes: feed.processes.filter((process) => process.id === id) };
}

/** The actors of all processes, each as if it ran in one. */
export function actorsOf(feed: Feed): Actor[] {
  const reports = present(feed).flatMap((process) => {
    const last = process.snapshots.at(-1);
    return last ? [{ host: process.host, actors: last.actors }] : [];
  });
  return merged(reports);
}

/** How much a counter of an actor grew in a second, over the last seconds, in all processes. */
export function rateOf(feed: Feed, name: string, counter: (actor: Actor) => number): number {
  let sum = 0;
  for (const { snapshots } of present(feed)) {
    const last = snapshots.at(-1);
    if (!last) continue;
    const since = last.uptime_seconds - WINDOW_SECONDS - 0.5;
    const first = snapshots.find((snapshot) => snapshot.uptime_seconds >= since);
    sum += between(first, last, name, counter);
  }
  return sum;
}

function between(first: Snapshot | undefined, last: Snapshot, name: string, counter: (actor: Actor) => number): number {
  const seconds = last.uptime_seconds - (first?.uptime_seconds ?? 0);
  if (!first || seconds <= 0) return 0;
  const value = (snapshot: Snapshot) => {
    const actor = snapshot.actors.find((actor) => actor.name === name);
    return actor ? counter(actor) : 0;
  };
  return Math.max(0, value(last) - value(first)) / seconds;
}

/** Counts the messages of a type that an actor has received, or of all types. */
export const received = (type?: string) => (actor: Actor) =>
  actor.messages
    .filter((message) => type === undefined || message.type === type)
    .reduce((sum, message) => sum + message.received, 0);
