// One event: its timeline, its row, and what an operator can do to it. And the search for a like by user and resource.

import { useState } from "preact/hooks";
import { type LedgerEntry, type LedgerPage, type Moment, type Timeline, about, message, query, request } from "./api";
import { duration, micros, time, whole, words } from "./format";
import { link, useQuery } from "./hooks";
import { useMayOperate } from "./session";
import { Card, Empty, Facts, Page, State, Waiting, ask, tell, tellError } from "./ui";

const MEANING: Record<string, string> = {
  accepted: "the service took the request; this is the event's version",
  published: "the stream holds it",
  recorded: "the behavior is in the database",
  completed: "the read models and counts contain its effect",
  waiting: "the infrastructure failed; the attempt does not count",
  failed: "the attempt failed; another follows",
  dead: "the last attempt failed",
  abandoned: "a worker abandoned the attempt; another follows",
  retried: "an operator retried it",
  discarded: "an operator discarded it",
  restored: "an audit or a rebuild restored it",
  voided: "an operator decided that the like does not count",
  unvoided: "an operator decided that it counts again",
};

const SHOWS = {
  this: "this event",
  newer: "a newer event, which supersedes this one",
  older: "an older event: this one has had no effect yet",
};

export function Steps({ timeline }: { timeline: Timeline }) {
  const first = timeline.timeline.find((moment) => moment.at)?.at;
  const facts = (moment: Moment) =>
    [
      moment.source && `from ${moment.source}`,
      moment.stream_sequence && `stream sequence ${whole(moment.stream_sequence)}`,
      moment.attempt && `attempt ${moment.attempt}`,
      moment.operator && `by ${moment.operator}`,
    ].filter(Boolean);
  return (
    <ol class="steps">
      {timeline.timeline.map((moment, index) => (
        <li key={index} data-step={moment.step}>
          <div class="step-head">
            <b>{words(moment.step)}</b>
            <time dateTime={moment.at ?? undefined}>
              {moment.at ? time(moment.at, true) : ""}
              {moment.at && first && moment.at !== first && <span class="hint"> +{duration((micros(moment.at) - micros(first)) / 1_000)}</span>}
            </time>
          </div>
          <p>{[MEANING[moment.step], ...facts(moment)].filter(Boolean).join(" · ")}</p>
          {moment.error_message && <pre class="wrap">{moment.error_message}</pre>}
        </li>
      ))}
    </ol>
  );
}

function Actions({ entry, reload }: { entry: LedgerEntry; reload: () => void }) {
  const mayOperate = useMayOperate();
  const [isBusy, setBusy] = useState(false);
  if (!mayOperate || entry.status === "completed") return null;
  const act = async (action: "retry" | "discard") => {
    const asked = await ask(
      action === "retry"
        ? { title: "Retry this event?", body: "It is tried again at once, and its failed attempts no longer count.", action: "Retry" }
        : { title: "Discard this event?", body: "It is closed as dead, and the like is taken back.", action: "Discard", isDestructive: true, reason: "Why, for the record" },
    );
    if (!asked) return;
    setBusy(true);
    try {
      const body = action === "discard" ? { reason: asked.reason } : undefined;
      await request(`admin/ledger/events/${entry.event_id}/${action}`, { method: "POST", body });
      tell(`event ${action === "retry" ? "retried" : "discarded"}`);
    } catch (error) {
      tellError(message(error));
    }
    setBusy(false);
    reload();
  };
  return (
    <div class="actions">
      {(entry.status === "failed" || entry.status === "dead") && <button type="button" disabled={isBusy} onClick={() => act("retry")}>Retry</button>}
      {entry.status !== "dead" && <button type="button" class="danger" disabled={isBusy} onClick={() => act("discard")}>Discard…</button>}
    </div>
  );
}

export function EventView({ id }: { id: string }) {
  const answer = useQuery<Timeline>(`admin/ledger/events/${encodeURIComponent(id)}`, 2_000);
  const timeline = answer.value;
  if (!timeline) return <Page title="Event"><Waiting error={answer.error} /></Page>;
  const entry = timeline.ledger;
  return (
    <Page
      title="Event"
      intro={<code>{timeline.event_id}</code>}
      actions={entry && <Actions entry={entry} reload={answer.reload} />}
    >
      <div class="columns">
        <Card title="Timeline"><Steps timeline={timeline} /></Card>
        <div>
          {entry && (
            <Card title="Ledger row" aside={<State state={entry.status} />}>
              <Facts
                of={[
                  ["User", <a href={link("find", { user_id: String(entry.user_id) })}><code>{String(entry.user_id)}</code></a>],
                  ["Resource", <code>{entry.resource_type} {String(entry.resource_id)}</code>],
                  ["Action", entry.action],
                  ["Version", <code>{String(entry.version)}</code>],
                  ["Failed attempts", `${entry.retry_count} of ${entry.max_retries}`],
                  ["Next attempt", time(entry.next_attempt_at)],
                  ["Lease until", time(entry.lease_until)],
                  ["Fencing token", String(entry.fencing_token)],
                  ["Recorded", time(entry.created_at, true)],
                  ["Closed", time(entry.processed_at, true)],
                  ["Trace", timeline.trace_id && <code>{timeline.trace_id}</code>],
                ]}
              />
            </Card>
          )}
          <Card title="Read model">
            {timeline.read_model ? (
              <Facts
                of={[
                  ["The user", timeline.read_model.liked ? "likes it" : "does not like it"],
                  ["Shows", SHOWS[timeline.read_model.shows]],
                  ["Version", <code>{String(timeline.read_model.version)}</code>],
                ]}
              />
            ) : (
              <p>The read model has no row of this user and resource yet.</p>
            )}
          </Card>
        </div>
      </div>
    </Page>
  );
}

/** Where is my like: the newest event of a user and a resource, and all before it. */
export function Find({ parameters }: { parameters: URLSearchParams }) {
  const user_id = parameters.get("user_id") ?? "";
  const resource_type = parameters.get("resource_type") ?? "";
  const resource_id = parameters.get("resource_id") ?? "";
  const isAsked = user_id !== "";
  const found = useQuery<LedgerPage>(isAsked ? `admin/ledger/events${query({ user_id, resource_type, resource_id, limit: 20 })}` : null, 2_000);
  const newest = found.value?.events[0];
  const timeline = useQuery<Timeline>(newest ? `admin/ledger/events/${newest.event_id}` : null, 2_000).value;
  const submit = (event: Event) => {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    location.hash = link("find", Object.fromEntries([...form].map(([name, value]) => [name, String(value).trim()])));
  };
  return (
    <Page title="Where is my like?" intro="Find the last like of a user, and how far it has come.">
      <form class="filter" role="search" aria-label="Find a like" onSubmit={submit} key={`${user_id} ${resource_type} ${resource_id}`}>
        <div class="fields">
          <label class="field">User<input name="user_id" required maxLength={200} defaultValue={user_id} /></label>
          <label class="field">
            Type
            <select name="resource_type">
              <option value="">any</option>
              {about.resource_types.map((type) => <option key={type} selected={type === resource_type}>{type}</option>)}
            </select>
          </label>
          <label class="field">Resource<input name="resource_id" maxLength={200} defaultValue={resource_id} placeholder="any" /></label>
          <div class="actions"><button type="submit" class="primary">Find</button></div>
        </div>
      </form>
      {isAsked && !found.value && <Waiting error={found.error} />}
      {found.value && !newest && (
        <Empty icon="search">
          No event of this user is in the ledger. An event that the service accepted through the stream appears when a worker records it; completed rows are pruned with age.
        </Empty>
      )}
      {newest && timeline && (
        <div class="columns">
          <Card title={<>The last: {newest.action} of <code>{newest.resource_type} {String(newest.resource_id)}</code></>} aside={<State state={newest.status} />}>
            <Steps timeline={timeline} />
            {timeline.read_model && <p>The read model says: the user {timeline.read_model.liked ? "likes it" : "does not like it"}. It shows {SHOWS[timeline.read_model.shows]}.</p>}
            <a href={link(`events/${newest.event_id}`)}>Everything of this event</a>
          </Card>
          <Card title="All of this user and resource">
            <ul class="history">
              {found.value!.events.map((row) => (
                <li key={row.event_id}>
                  <a href={link(`events/${row.event_id}`)}>{row.action} <code>{row.resource_type} {String(row.resource_id)}</code></a>
                  <span class="hint">{time(row.created_at)}</span>
                  <State state={row.status} />
                </li>
              ))}
            </ul>
          </Card>
        </div>
      )}
    </Page>
  );
}
