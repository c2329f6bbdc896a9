// One actor in a panel: everything that its report says, and what an operator can do to it.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Actor, message, query, request } from "./api";
import { type Process, only, rateOf, useFeed } from "./feed";
import { ago, duration, plural, rate, time, whole, words } from "./format";
import { link } from "./hooks";
import { Icon } from "./icons";
import { useMayOperate, useSession } from "./session";
import { Facts, Notice, Panel, State, Table, Waiting, ask, tell, tellError } from "./ui";

const OPERATIONS = {
  pause: {
    title: "Pause",
    icon: "pause",
    body: "Its messages stay queued, no tick starts, and what runs ends. Requests that need it get 503; without the event publisher, likes go to the database. A restart of the process resumes it.",
  },
  resume: { title: "Resume", icon: "play", body: "It takes its messages again." },
  restart: { title: "Restart", icon: "restart", body: "As after a panic: its messages stay, and its schedule begins anew." },
} as const;

function value(value: unknown): ComponentChildren {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return whole(value);
  if (typeof value === "object") return <code>{JSON.stringify(value)}</code>;
  return String(value);
}

function Operations({ actor, process }: { actor: Actor; process: Process }) {
  const mayOperate = useMayOperate();
  const { fault_injection } = useSession();
  const [isBusy, setBusy] = useState(false);
  if (!mayOperate || ["disabled", "failed", "stopped"].includes(actor.state)) return null;
  const send = async (path: string, done: string) => {
    setBusy(true);
    try {
      await request(path, { method: "POST" });
      tell(done);
    } catch (error) {
      tellError(message(error));
    }
    setBusy(false);
  };
  // The process that serves the page needs no name; faults are injected into it only.
  const place = process.is_this ? "" : query({ process: process.id });
  const operate = async (operation: keyof typeof OPERATIONS) => {
    const { title, body } = OPERATIONS[operation];
    const asked = await ask({ title: `${title} ${words(actor.name)}?`, body, action: title, isDestructive: operation === "pause" });
    if (asked) await send(`admin/actors/${actor.name}/${operation}${place}`, `${words(actor.name)}: ${operation} done`);
  };
  const inject = async (fault: "panic" | "block") => {
    const body = fault === "panic" ? "It panics at its next message and restarts." : "It blocks the thread of all actors for five seconds.";
    if (await ask({ title: `Make ${words(actor.name)} ${fault}?`, body, action: `Inject the ${fault}`, isDestructive: true })) {
      await send(`admin/faults/${fault}/${actor.name}`, `${words(actor.name)} will ${fault} at its next message`);
    }
  };
  const names: (keyof typeof OPERATIONS)[] = [actor.state === "paused" ? "resume" : "pause", "restart"];
  return (
    <div class="actions">
      {names.map((name) => (
        <button key={name} type="button" disabled={isBusy} onClick={() => operate(name)}>
          <Icon name={OPERATIONS[name].icon} />{OPERATIONS[name].title}
        </button>
      ))}
      {fault_injection && process.is_this && (
        <>
          <button type="button" disabled={isBusy} onClick={() => inject("panic")}>Make it panic</button>
          <button type="button" disabled={isBusy} onClick={() => inject("block")}>Make it block</button>
        </>
      )}
    </div>
  );
}

/** The processes that have this actor: one with a problem first, then the busiest. */
function places(processes: Process[], name: string) {
  const found = processes.flatMap((process) => {
    const actor = process.snapshots.at(-1)?.actors.find((actor) => actor.name === name);
    return actor ? [{ process, actor }] : [];
  });
  const rank = ({ process, actor }: (typeof found)[number]) =>
    (actor.state === "disabled" ? 8 : actor.state === "running" ? 4 : 0) + (process.state === "running" ? 0 : 2);
  return found.sort((a, b) => rank(a) - rank(b) || b.actor.processed - a.actor.processed);
}

export function ActorPanel({ name, process: chosen }: { name: string; process?: string }) {
  const all = useFeed();
  // The process that is shown does not change while the panel is open, unless the operator chooses another.
  const [first, setFirst] = useState<string | undefined>(chosen);
  const found = places(all.processes, name);
  const wanted = chosen ?? first;
  const place = found.find(({ process }) => process.id === wanted) ?? found[0];
  useEffect(() => {
    if (place && first === undefined && place.process.id) setFirst(place.process.id);
  }, [place?.process.id]);
  const close = () => {
    location.hash = link("overview");
  };
  if (!place) {
    return (
      <Panel title={words(name)} onClose={close}>
        {all.processes.length === 0 ? <Waiting error={all.lost?.why ?? ""} /> : <Notice kind="error">No actor is called {name}.</Notice>}
      </Panel>
    );
  }
  const { actor, process } = place;
  const feed = only(all, process.id);
  const { supervision, mailbox } = actor;
  const details = Object.entries((actor.details ?? {}) as Record<string, unknown>);
  return (
    <Panel title={<>{words(actor.name)} <State state={actor.state} /></>} onClose={close}>
      {actor.reason && <Notice kind={actor.state === "disabled" ? "info" : "warning"}>{actor.reason}</Notice>}
      {found.length > 1 && (
        <ul class="processes" aria-label="Processes">
          {found.map(({ process: one, actor }) => (
            <li key={one.id}>
              <a class="chip" href={link(`actors/${name}`, { process: one.id })} aria-current={one.id === process.id ? "true" : undefined}>
                <State state={one.state === "running" ? actor.state : one.state} quiet /> {one.host} · {one.role}
              </a>
            </li>
          ))}
        </ul>
      )}
      <Operations actor={actor} process={process} />
      <Facts
        of={[
          ["In this state", `for ${duration(Date.now() - Date.parse(actor.since))}, since ${time(actor.since)}`],
          ["Mailbox", `${whole(mailbox.depth)} of ${whole(mailbox.capacity)}${mailbox.depth > 0 ? `, oldest ${duration(mailbox.oldest_ms)}` : ""}${mailbox.reserved > 0 ? `, room reserved for ${whole(mailbox.reserved)}` : ""}`],
          ["Processed", `${whole(actor.processed)} (${rate(rateOf(feed, name, (actor) => actor.processed))}/s)`],
          ["Errors", whole(actor.errors)],
          ["Tick", actor.tick_ms === null || actor.tick_ms === undefined ? "none runs" : `runs for ${duration(actor.tick_ms)}`],
          ["Waits for", actor.waits_for.length === 0 ? "nobody" : actor.waits_for.map((wait) => `${words(wait.actor)} (${plural(wait.messages, "message")}, ${duration(wait.oldest_ms)})`).join(", ")],
        ]}
      />
      {actor.last_error && <><h3>Last error</h3><pre class="wrap">{actor.last_error}</pre></>}
      {actor.messages.length > 0 && (
        <>
          <h3>Messages by type</h3>
          <Table
            label="Messages by type"
            head={<><th>Type</th><th class="number">Received</th><th class="number">Failed</th><th class="number">Waiting</th><th class="number">Running</th><th class="number">Batch p50 / max</th><th class="number">Latency p50 / p99</th></>}
          >
            {actor.messages.map((one) => (
              <tr key={one.type}>
                <td><code>{one.type}</code></td>
                <td class="number">{whole(one.received)}</td>
                <td class="number">{whole(one.failed)}</td>
                <td class="number">{whole(one.waiting)}</td>
                <td class="number">{one.running.batches === 0 ? "–" : `${whole(one.running.messages)} for ${duration(one.running.oldest_ms)}`}</td>
                <td class="number">{whole(one.batch_size.p50)} / {whole(one.batch_size.max)}</td>
                <td class="number">{duration(one.latency_ms.p50)} / {duration(one.latency_ms.p99)}</td>
              </tr>
            ))}
          </Table>
          <p class="hint">Percentiles cover the last one to two minutes.</p>
        </>
      )}
      {details.length > 0 && <><h3>Details</h3><Facts of={details.map(([name, detail]) => [words(name), value(detail)])} /></>}
      <h3>Supervision</h3>
      <Facts
        of={[
          ["Policy", `${words(supervision.policy)}: ${whole(supervision.max_restarts)} panics in ${supervision.window_seconds} s`],
          ["Panics in the window", whole(supervision.panics_in_window)],
          ["Panics and restarts", `${whole(actor.panics)} and ${whole(actor.restarts)} since the start`],
          ...(supervision.last_panic
            ? ([
                ["Last panic", `${supervision.last_panic.message}, ${ago(supervision.last_panic.at)}`],
                ["At", <code>{supervision.last_panic.place ?? "–"}</code>],
              ] as [string, ComponentChildren][])
            : []),
        ]}
      />
    </Panel>
  );
}
