// Webhooks: the receivers of facts, and the dead letters, which a receiver did not take.

import { useEffect, useState } from "preact/hooks";
import { type DeadLetter, type DeadLetters, type Webhooks as Receivers, message, query, request } from "./api";
import { type Action, Bar, More, Select, useAll } from "./bulk";
import { FilterForm, TextField, TimeField, TypeField, given } from "./filter";
import { ago, plural, time, whole } from "./format";
import { link, useQuery } from "./hooks";
import { JobProgress } from "./jobs";
import { usePages } from "./pages";
import { useMayOperate } from "./session";
import { Card, Empty, Facts, Notice, Page, State, Table, Waiting, ask, tell, tellError } from "./ui";

const FIELDS = ["receiver", "resource_type", "resource_id", "user_id", "since", "until", "error"] as const;
const PAGE = 50;

const RETRY: Action & { kind: "retry_webhooks"; path: "retry" } = {
  kind: "retry_webhooks", path: "retry", verb: "Retry", does: "Retries", done: "sent again", one: "dead letter", isDestructive: false,
  job: "A job has the dead letters that match now sent again, each with all its attempts. It can be cancelled.",
};
const DISCARD: Action & { kind: "discard_webhooks"; path: "discard" } = {
  kind: "discard_webhooks", path: "discard", verb: "Discard", does: "Discards", done: "deleted", one: "dead letter", isDestructive: true,
  job: "A job deletes the dead letters that match now: their receiver never gets these facts. It can be cancelled; what it has deleted stays deleted.",
};

/** Asks, and retries or discards these dead letters in one request. Returns whether it was done. */
async function resolve(action: typeof RETRY | typeof DISCARD, ids: number[]): Promise<boolean> {
  const asked = await ask({
    title: `${action.verb} ${plural(ids.length, action.one)}?`,
    body: action === RETRY ? "Each is sent again, with all its attempts." : "They are deleted: their receiver never gets these facts.",
    action: action.verb,
    isDestructive: action.isDestructive,
  });
  if (!asked) return false;
  try {
    const { changed } = await request<{ changed: number }>(`admin/webhooks/${action.path}`, { method: "POST", body: { ids } });
    tell(`${plural(changed, action.one)} ${action.done}`);
    return true;
  } catch (error) {
    tellError(message(error));
    return false;
  }
}

function ReceiverTable() {
  const answer = useQuery<Receivers>("admin/webhooks", 4_000);
  const receivers = answer.value?.receivers;
  if (!receivers) return <Waiting error={answer.error} />;
  if (receivers.length === 0) return <p class="hint">No webhook is configured (<code>LIKEWISE_WEBHOOK_URLS</code>), and no fact waits for one.</p>;
  return (
    <Table label="Receivers" head={<><th>Receiver</th><th class="number">Waiting</th><th>Oldest</th><th class="number">Dead</th><th>Configured</th></>}>
      {receivers.map((one) => (
        <tr key={one.receiver}>
          <td><a href={link("webhooks", { receiver: one.receiver })}><code>{one.receiver}</code></a></td>
          <td class="number">{whole(one.waiting)}</td>
          <td>{one.oldest_at ? ago(one.oldest_at) : "–"}</td>
          <td class="number">{whole(one.dead)}</td>
          <td>{one.configured ? "yes" : "no: its facts are not sent"}</td>
        </tr>
      ))}
    </Table>
  );
}

export function Webhooks({ parameters }: { parameters: URLSearchParams }) {
  const filter = given(parameters, FIELDS);
  const hasFilter = Object.keys(filter).length > 0;
  const mayOperate = useMayOperate();
  const pages = usePages<DeadLetters, DeadLetter>(
    (cursor) => `admin/webhooks/dead${query({ ...filter, limit: PAGE, cursor })}`,
    (page) => page.dead,
    (row) => String(row.id),
  );
  const all = useAll(pages, JSON.stringify(filter));
  const { page, rows, chosen } = pages;

  const onSelected = async (action: typeof RETRY | typeof DISCARD) => {
    if (await resolve(action, chosen.map((row) => row.id))) pages.reload();
  };
  const onAll = (action: typeof RETRY | typeof DISCARD) => all.run({ kind: action.kind, dead_letters: filter }, action);

  return (
    <Page title="Webhooks" intro="Facts tell other services what changed. One that a receiver refused too often is a dead letter: it waits for an operator.">
      <Card title="Receivers"><ReceiverTable /></Card>
      <h2 class="section">Dead letters</h2>
      <FilterForm label="Filter dead letters" view="webhooks" filter={filter} kept={{ receiver: filter.receiver }}>
        <TextField label="User" name="user_id" value={filter.user_id} />
        <TypeField value={filter.resource_type} />
        <TextField label="Resource" name="resource_id" value={filter.resource_id} />
        <TextField label="Error contains" name="error" value={filter.error} wide />
        <TimeField label="Dead since" name="since" value={filter.since} />
        <TimeField label="and before" name="until" value={filter.until} />
      </FilterForm>
      {filter.receiver && <p class="hint">Only those of <code>{filter.receiver}</code>. <a href={link("webhooks", { ...filter, receiver: undefined })}>Show all receivers</a>.</p>}
      {all.job && <JobProgress id={all.job} onEnd={pages.reload} onClose={all.close} />}
      {mayOperate && rows.length > 0 && (
        <Bar
          pages={pages}
          all={hasFilter ? "All that match:" : "All dead letters:"}
          selected={
            <>
              <button type="button" onClick={() => onSelected(RETRY)}>Retry</button>
              <button type="button" class="danger" onClick={() => onSelected(DISCARD)}>Discard</button>
            </>
          }
        >
          <button type="button" aria-disabled={all.isBusy} onClick={() => onAll(RETRY)}>Retry all…</button>
          <button type="button" class="danger" aria-disabled={all.isBusy} onClick={() => onAll(DISCARD)}>Discard all…</button>
        </Bar>
      )}
      {page.error && page.value && <Notice kind="error">{page.error}</Notice>}
      {!page.value ? (
        <Waiting error={page.error} />
      ) : rows.length === 0 ? (
        <Empty icon="send">{hasFilter ? "No dead letter matches." : "There are no dead letters: every fact was taken, or waits for its next attempt."}</Empty>
      ) : (
        <Table
          label="Dead letters"
          head={
            <>
              {mayOperate && <th class="select"><Select pages={pages} label={`Select all ${rows.length} rows shown`} /></th>}
              <th class="number">Letter</th><th>Fact</th><th>User</th><th>Resource</th><th>Last error</th><th class="number">Attempts</th><th>Dead since</th><th>Receiver</th>
            </>
          }
        >
          {rows.map((row) => (
            <tr key={row.id} aria-selected={pages.isSelected(row)}>
              {mayOperate && <td class="select"><Select pages={pages} row={row} label={`Select dead letter ${row.id}`} /></td>}
              <td class="number"><a href={link(`webhooks/${row.id}`)}>{String(row.id)}</a></td>
              <td>{row.fact}</td>
              <td><code>{String(row.user_id)}</code></td>
              <td><code>{row.resource_type} {String(row.resource_id)}</code></td>
              <td class="error-text">{row.last_error ?? ""}</td>
              <td class="number">{row.attempts}</td>
              <td title={row.dead_at}>{time(row.dead_at)}</td>
              <td><code>{row.receiver}</code></td>
            </tr>
          ))}
        </Table>
      )}
      <More pages={pages} />
    </Page>
  );
}

export function DeadLetterView({ id }: { id: string }) {
  const mayOperate = useMayOperate();
  const [done, setDone] = useState("");
  const answer = useQuery<DeadLetter>(done ? null : `admin/webhooks/dead/${encodeURIComponent(id)}`, 4_000);
  const [found, setFound] = useState<DeadLetter | undefined>();
  useEffect(() => {
    if (answer.value) setFound(answer.value);
  }, [answer.value]);
  if (!found) return <Page title="Dead letter"><Waiting error={answer.error} /></Page>;
  const act = async (action: typeof RETRY | typeof DISCARD) => {
    if (await resolve(action, [found.id])) setDone(action.done);
  };
  return (
    <Page
      title="Dead letter"
      intro={<code>{String(found.id)}</code>}
      actions={mayOperate && !done && !answer.error && (
        <>
          <button type="button" onClick={() => act(RETRY)}>Retry…</button>
          <button type="button" class="danger" onClick={() => act(DISCARD)}>Discard…</button>
        </>
      )}
    >
      {done && <Notice kind="good">It was {done}. <a href={link("webhooks")}>Back to the dead letters</a>.</Notice>}
      {!done && answer.error && <Notice kind="warning">{answer.error}: it was resolved meanwhile.</Notice>}
      <div class="columns">
        <Card title="Delivery" aside={<State state={done ? "done" : "dead"} />}>
          <Facts
            of={[
              ["Receiver", <code>{found.receiver}</code>],
              ["Failed attempts", whole(found.attempts)],
              ["Last error", found.last_error ?? "–"],
              ["Committed", time(found.created_at, true)],
              ["Dead since", time(found.dead_at, true)],
            ]}
          />
        </Card>
        <Card title="The fact">
          <Facts
            of={[
              ["Change", found.fact],
              ["User", <a href={link("find", { user_id: String(found.user_id) })}><code>{String(found.user_id)}</code></a>],
              ["Resource", <code>{found.resource_type} {String(found.resource_id)}</code>],
              ["Like count", whole(found.like_count)],
              ["Version", <code>{String(found.version)}</code>],
              ["Event", <a href={link(`events/${found.event_id}`)}><code>{found.event_id}</code></a>],
            ]}
          />
        </Card>
      </div>
    </Page>
  );
}
