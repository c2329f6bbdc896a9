// The overview: the flow, what is wrong, and how much goes through.

import type { Actor, LedgerHealth, QuarantinePage, Readiness, Webhooks } from "./api";
import { type Process, actorsOf, only, rateOf, received, useFeed } from "./feed";
import { FlowView } from "./flow";
import { ago, duration, plural, rate, whole, words } from "./format";
import { HistoryView } from "./history";
import { link, useClock, useQuery } from "./hooks";
import { Card, Level, Notice, Page, State, Waiting } from "./ui";

const STATUSES = ["pending", "processing", "failed", "dead", "completed"] as const;

/** What an operator has to look at, most severe first. */
function problems(actors: Actor[], processes: Process[], readiness: Readiness | undefined, ledger: LedgerHealth | undefined, hasQuarantined: boolean, webhooks: Webhooks | undefined) {
  const found: { kind: "error" | "warning"; text: string; href: string }[] = [];
  for (const process of processes.filter((process) => process.state === "silent" || process.state === "gone")) {
    const ago = duration(process.age_ms);
    found.push({ kind: process.state === "gone" ? "error" : "warning", text: `${process.host} (${process.role}) is ${process.state}: its last report came ${ago} ago`, href: link("overview", { process: process.id }) });
  }
  for (const actor of actors) {
    const href = link(`actors/${actor.name}`);
    const reason = actor.reason ? `: ${actor.reason}` : "";
    if (["stuck", "failed", "restarting"].includes(actor.state)) {
      found.push({ kind: "error", text: `${words(actor.name)} is ${actor.state}${reason}`, href });
    } else if (actor.state === "paused") {
      found.push({ kind: "warning", text: `${words(actor.name)} is paused${reason}`, href });
    } else if (actor.supervision.panics_in_window > 0) {
      const times = plural(actor.supervision.panics_in_window, "time");
      found.push({ kind: "warning", text: `${words(actor.name)} panicked ${times} in the last minute and restarted`, href });
    }
  }
  for (const [name, part] of Object.entries(readiness?.parts ?? {})) {
    if (part.state === "down") {
      found.push({ kind: "error", text: `${name} (${part.kind}) is down${part.error ? `: ${part.error}` : ""}`, href: link("dependencies") });
    }
    for (const warning of part.warnings ?? []) found.push({ kind: "warning", text: warning, href: link("dependencies") });
  }
  for (const warning of readiness?.warnings ?? []) found.push({ kind: "warning", text: warning, href: link("dependencies") });
  if (hasQuarantined) found.push({ kind: "warning", text: "messages that could not be decoded are in quarantine", href: link("quarantine") });
  for (const { receiver, dead } of webhooks?.receivers ?? []) {
    if (dead > 0) found.push({ kind: "warning", text: `${plural(dead, "fact")} for ${receiver} ${dead === 1 ? "is a dead letter" : "are dead letters"}`, href: link("webhooks", { receiver }) });
  }
  const { dead = 0 } = (ledger?.rows ?? {}) as Record<string, number>;
  if (dead > 0) {
    found.push({ kind: "warning", text: `${plural(dead, "event is", "events are")} dead`, href: link("events", { status: "dead" }) });
  }
  return found.sort((a, b) => Number(b.kind === "error") - Number(a.kind === "error"));
}

function Wiring({ processes, note }: { processes: Process[]; note: string }) {
  const [first] = processes;
  if (processes.length > 1) return <span>as {plural(processes.length, "process is", "processes are")} wired together</span>;
  const uptime = first?.snapshots.at(-1)?.uptime_seconds ?? 0;
  return <span title={note}>as {first?.is_this ? "this process" : first?.host} is wired · up {duration(uptime * 1_000)}</span>;
}

/** What a process said last before it ended. */
function LastWords({ process }: { process: Process }) {
  const last = process.snapshots.at(-1);
  return (
    <>
      <Notice kind={process.state === "stopped" ? "info" : "error"}>
        {process.host} ({process.role}) {process.state === "stopped" ? "ended in order" : "sends no reports"}. Its last report came {duration(process.age_ms)} ago:
      </Notice>
      <ul class="history">
        {last?.actors.map((actor) => (
          <li key={actor.name}><span>{words(actor.name)}</span><span class="hint">{plural(actor.mailbox.depth, "message")} in its mailbox, {whole(actor.processed)} processed{actor.last_error ? `, last error: ${actor.last_error}` : ""}</span><State state={actor.state} /></li>
        ))}
      </ul>
    </>
  );
}

function Figure({ label, value, note, href, tone = "" }: {
  label: string;
  value: string;
  note?: string;
  href?: string;
  tone?: string;
}) {
  const inner = (
    <>
      <span class="figure-label">{label}</span>
      <span class={`figure-value ${tone}`}>{value}</span>
      <span class="figure-note">{note ?? ""}</span>
    </>
  );
  return href ? <a class="figure" href={href}>{inner}</a> : <div class="figure">{inner}</div>;
}

/** The processes of the deployment, to look at all or at one. */
function Processes({ processes, chosen }: { processes: Process[]; chosen: string | undefined }) {
  return (
    <ul class="processes" aria-label="Processes">
      <li><a class="chip" href={link("overview")} aria-current={chosen === undefined ? "true" : undefined}>all processes</a></li>
      {processes.map(({ id, host, role, state, is_this, age_ms }) => (
        <li key={id}>
          <a class="chip" href={link("overview", { process: id })} aria-current={chosen === id ? "true" : undefined}>
            <State state={state} quiet /> {host} · {role}{is_this ? " · this one" : ""}{state === "running" ? "" : ` · ${state} for ${duration(age_ms)}`}
          </a>
        </li>
      ))}
    </ul>
  );
}

export function Overview({ process }: { process?: string }) {
  const all = useFeed();
  useClock();
  const readiness = useQuery<Readiness>("readyz", 2_000, false, [503]).value;
  const ledger = useQuery<LedgerHealth>("admin/ledger", 4_000).value;
  const quarantined = useQuery<QuarantinePage>("admin/quarantine?resolved=false&limit=1", 10_000).value;
  const webhooks = useQuery<Webhooks>("admin/webhooks", 10_000).value;
  const hasQuarantined = (quarantined?.messages.length ?? 0) > 0;
  const chosen = all.processes.some((one) => one.id === process) ? process : undefined;
  const feed = only(all, chosen);
  const actors = actorsOf(feed);
  // Above every view, the console says why no report has come.
  if (all.processes.length === 0) return <Page title="Overview">{!all.lost && <Waiting error="" />}</Page>;

  const rows = (ledger?.rows ?? {}) as Record<string, number>;
  const waiting = actors.reduce((sum, actor) => sum + actor.mailbox.depth, 0);
  const oldest = Math.max(0, ...actors.map((actor) => actor.mailbox.oldest_ms));
  const isPublishing = actors.some((actor) => actor.name === "event_publisher" && actor.state !== "disabled");
  const accepted = isPublishing
    ? rateOf(feed, "event_publisher", received("Publish"))
    : rateOf(feed, "behavior_recorder", received("Record"));
  const completed = rateOf(feed, "sync_publisher", (actor) => actor.processed);
  const open = (rows.pending ?? 0) + (rows.processing ?? 0) + (rows.failed ?? 0);
  const wrong = problems(actors, all.processes, readiness, ledger, hasQuarantined, webhooks);

  return (
    <Page title="Overview">
      {wrong.length > 0 && (
        <ul class="problems">
          {wrong.map(({ kind, text, href }) => (
            <li key={text}><a href={href}><Notice kind={kind}>{text}</Notice></a></li>
          ))}
        </ul>
      )}
      <div class="figures">
        <Figure label="Accepted" value={`${rate(accepted)}/s`} note="events, last 5 s" />
        <Figure label="Completed" value={`${rate(completed)}/s`} note={ledger ? `${ledger.completed_is_estimate ? "about " : ""}${whole(rows.completed ?? 0)} in the ledger` : ""} />
        <Figure label="In mailboxes" value={whole(waiting)} note={waiting > 0 ? `oldest ${duration(oldest)}` : "nothing waits"} />
        <Figure label="Open rows" value={ledger ? whole(open) : "–"} note={!ledger ? "" : open > 0 && ledger.oldest_open_at ? `oldest ${ago(ledger.oldest_open_at)}` : "the ledger is closed"} href={link("events")} />
        <Figure label="Failed" value={ledger ? whole(rows.failed ?? 0) : "–"} note="will be retried" tone={rows.failed ? "warning" : ""} href={link("events", { status: "failed" })} />
        <Figure label="Dead" value={ledger ? whole(rows.dead ?? 0) : "–"} note="need a decision" tone={rows.dead ? "error" : ""} href={link("events", { status: "dead" })} />
      </div>
      <Card title="The flow" aside={<Wiring processes={feed.processes} note={feed.note} />} class="flow-card">
        {all.processes.length > 1 && <Processes processes={all.processes} chosen={chosen} />}
        {actors.length > 0 ? <FlowView feed={feed} readiness={readiness} /> : <LastWords process={feed.processes[0]!} />}
      </Card>
      <HistoryView />
      <div class="columns">
        <Card title="Ledger">
          <ul class="bars">
            {STATUSES.map((status) => (
              <li key={status}>
                <a href={link("events", { status })}>
                  <span>{status}</span>
                  <Level value={rows[status] ?? 0} most={Math.max(1, ...Object.values(rows))} state={status} />
                  <b>{ledger ? whole(rows[status] ?? 0) : "–"}</b>
                </a>
              </li>
            ))}
          </ul>
        </Card>
        <Card title="Most frequent errors">
          {ledger?.errors.length === 0 && <p class="hint">No row has failed or is dead.</p>}
          {ledger && ledger.errors.length > 0 && (
              <ul class="errors">
                {ledger.errors.slice(0, 5).map(({ error_message, rows }) => (
                  <li key={error_message}>
                    <a href={link("events", { error: error_message.slice(0, 120) })}>{error_message}</a>
                    <b>{whole(rows)}</b>
                  </li>
                ))}
              </ul>
          )}
        </Card>
      </div>
    </Page>
  );
}
