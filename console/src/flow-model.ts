// What the flow consists of: which actors and dependencies this process has, where they stand in the drawing, and what
// travels between them. Everything comes from the reports of the process.

import type { Actor, Readiness } from "./api";
import { received } from "./feed";

export type Node =
  | { kind: "actor"; name: string; area: string }
  | { kind: "part"; name: string; title: string; note: string; area: string; part?: string };

export interface Edge {
  from: string;
  to: string;
  /** What travels. */
  label: string;
  /** The counter whose growth is the rate. */
  of?: { actor: string; counter: (actor: Actor) => number };
}

export interface Flow {
  /** Whether events travel through a broker, which decides the layout. */
  hasBroker: boolean;
  nodes: Node[];
  edges: Edge[];
  /** Actors beside the flow. */
  beside: string[];
  /** Actors that do not run in this process, with the reason. */
  off: { name: string; reason: string }[];
}

const processed = (actor: Actor) => actor.processed;

const ON_THE_WAY = ["cache_writer", "event_publisher", "nats_subscriber", "behavior_recorder", "sync_publisher", "retry_scheduler"];

export function flowOf(actors: Actor[], readiness: Readiness | undefined): Flow {
  const parts = readiness?.parts ?? {};
  const isOff = (name: string) => actors.find((actor) => actor.name === name)?.state === "disabled";
  const hasBroker = "broker" in parts || !isOff("event_publisher") || !isOff("nats_subscriber");
  const hasApi = !isOff("idempotency_keeper");
  const nodes: Node[] = [];
  const edges: Edge[] = [];
  const kindOf = (part: string, fallback: string) => {
    const kind = parts[part]?.kind ?? (readiness ? fallback : part);
    return kind === "in-process" ? `in-process ${part}` : kind;
  };

  for (const name of ON_THE_WAY) {
    const isThere = actors.some((actor) => actor.name === name);
    // Without a broker its actors are not a part of the drawing.
    const isBrokers = name === "event_publisher" || name === "nats_subscriber";
    if (isThere && (hasBroker || !isBrokers)) nodes.push({ kind: "actor", name, area: name });
  }
  if (hasApi) nodes.unshift({ kind: "part", name: "api", title: "HTTP API", note: "", area: "api" });
  const part = (name: string, fallback: string, note: string) =>
    nodes.push({ kind: "part", name, title: kindOf(name, fallback), note, area: name, part: name });
  part("cache", "no cache", "newest version wins");
  part("database", "database", "behaviors, ledger, read models");
  if (hasBroker) part("broker", "NATS", "stream");

  const connect = (from: string, to: string, label: string, actor?: string, counter?: (actor: Actor) => number) => {
    const isThere = (name: string) => nodes.some((node) => node.name === name && !isOff(name));
    if (isThere(from) && isThere(to)) edges.push({ from, to, label, of: actor && counter ? { actor, counter } : undefined });
  };
  connect("api", "cache_writer", "likes", "cache_writer", received("Apply"));
  connect("cache_writer", "cache", "applied", "cache_writer", processed);
  if (hasBroker) {
    connect("api", "event_publisher", "events", "event_publisher", received("Publish"));
    connect("event_publisher", "broker", "published", "event_publisher", processed);
    connect("broker", "nats_subscriber", "pulled", "nats_subscriber", processed);
    connect("nats_subscriber", "behavior_recorder", "events", "behavior_recorder", received("Record"));
  } else {
    connect("api", "behavior_recorder", "events", "behavior_recorder", received("Record"));
  }
  connect("behavior_recorder", "database", "recorded", "behavior_recorder", processed);
  // The recorder also sends `Sync` when it is behind, but so does the scheduler, and no counter tells from whom it came.
  connect("behavior_recorder", "sync_publisher", "committed", "sync_publisher", received("Committed"));
  connect("sync_publisher", "database", "completed in a second step", "sync_publisher", received("Sync"));
  connect("sync_publisher", "cache_writer", "settled", "cache_writer", received("Settle"));
  connect("database", "retry_scheduler", "due rows");
  connect("retry_scheduler", "sync_publisher", "claimed", "retry_scheduler", processed);

  const off = actors.filter((actor) => actor.state === "disabled");
  return {
    hasBroker,
    nodes,
    edges,
    beside: actors
      .filter((actor) => !ON_THE_WAY.includes(actor.name) && actor.state !== "disabled")
      .map((actor) => actor.name),
    off: off
      .filter((actor) => !nodes.some((node) => node.name === actor.name))
      .map((actor) => ({ name: actor.name, reason: actor.reason ?? "" })),
  };
}
