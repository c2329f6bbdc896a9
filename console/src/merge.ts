// The same actor of several processes as one: the worst state, the sums of the counters.

import type { Actor, Message } from "./api";

/** The states, worst first. An actor that is off somewhere and runs elsewhere is running. */
const STATES = ["failed", "stuck", "restarting", "paused", "starting", "running", "stopped", "disabled"];

export function merged(reports: { host: string; actors: Actor[] }[]): Actor[] {
  if (reports.length === 1) return reports[0]!.actors;
  const names = new Set(reports.flatMap(({ actors }) => actors.map((actor) => actor.name)));
  return [...names].map((name) =>
    mergedActor(
      reports.flatMap(({ host, actors }) => {
        const actor = actors.find((actor) => actor.name === name);
        return actor ? [{ host, actor }] : [];
      }),
    ),
  );
}

function mergedActor(all: { host: string; actor: Actor }[]): Actor {
  const worst = all.reduce((worst, one) => (STATES.indexOf(one.actor.state) < STATES.indexOf(worst.actor.state) ? one : worst));
  const actors = all.map(({ actor }) => actor).filter((actor) => actor.state !== "disabled");
  const sum = (of: (actor: Actor) => number) => actors.reduce((sum, actor) => sum + of(actor), 0);
  const most = (of: (actor: Actor) => number) => Math.max(0, ...actors.map(of));
  const types = new Set(actors.flatMap((actor) => actor.messages.map((message) => message.type)));
  const isOne = worst.actor.state === "running" || worst.actor.state === "disabled";
  return {
    ...worst.actor,
    reason: worst.actor.reason && !isOne ? `${worst.actor.reason} (${worst.host})` : worst.actor.reason,
    mailbox: {
      depth: sum((actor) => actor.mailbox.depth),
      reserved: sum((actor) => actor.mailbox.reserved),
      capacity: sum((actor) => actor.mailbox.capacity),
      oldest_ms: most((actor) => actor.mailbox.oldest_ms),
    },
    messages: [...types].map((type) => mergedMessage(actors.flatMap((actor) => actor.messages.filter((message) => message.type === type)))),
    waits_for: actors.flatMap((actor) => actor.waits_for).filter((wait, index, waits) => waits.findIndex((other) => other.actor === wait.actor) === index),
    processed: sum((actor) => actor.processed),
    errors: sum((actor) => actor.errors),
    panics: sum((actor) => actor.panics),
    restarts: sum((actor) => actor.restarts),
    supervision: { ...worst.actor.supervision, panics_in_window: sum((actor) => actor.supervision.panics_in_window) },
  };
}

/** Percentiles of several processes have no exact sum: the worst is shown. */
function mergedMessage(messages: Message[]): Message {
  const sum = (of: (message: Message) => number) => messages.reduce((sum, message) => sum + of(message), 0);
  const worst = messages.reduce((worst, message) => (message.latency_ms.p99 > worst.latency_ms.p99 ? message : worst));
  return {
    ...worst,
    received: sum((message) => message.received),
    done: sum((message) => message.done),
    failed: sum((message) => message.failed),
    waiting: sum((message) => message.waiting),
    batches: sum((message) => message.batches),
  };
}
