// The events of the ledger: a filter that the address keeps, a page of rows, and what an operator does to the selected
// ones or to all that match.

import { useEffect, useState } from "preact/hooks";
import { type Counted, type Job, type LedgerEntry, type LedgerPage, about, message, query, request } from "./api";
import { ago, plural, time, whole } from "./format";
import { link, useQuery } from "./hooks";
import { Icon } from "./icons";
import { JobProgress } from "./jobs";
import { useMayOperate } from "./session";
import { Empty, Notice, Page, State, Table, Waiting, ask, tell, tellError } from "./ui";

const STATUSES = ["", "pending", "processing", "failed", "dead", "completed"];
const FIELDS = ["status", "resource_type", "resource_id", "user_id", "since", "until", "error"] as const;
const PAGE = 50;

export type Filter = Partial<Record<(typeof FIELDS)[number], string>>;

export function filterOf(parameters: URLSearchParams): Filter {
  const filter: Filter = {};
  for (const field of FIELDS) {
    const value = parameters.get(field);
    if (value) filter[field] = value;
  }
  return filter;
}

/** The value of an input of a local date and time, of a moment in UTC; and back. */
const local = (iso: string | undefined) => {
  if (!iso) return "";
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? "" : new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
};
const utc = (text: string) => (text ? new Date(text).toISOString() : "");

function FilterForm({ filter }: { filter: Filter }) {
  const submit = (event: Event) => {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    const given = Object.fromEntries(FIELDS.map((field) => [field, String(form.get(field) ?? "").trim()]));
    location.hash = link("events", { ...given, status: filter.status, since: utc(given.since!), until: utc(given.until!) });
  };
  return (
    <form class="filter" role="search" aria-label="Filter events" onSubmit={submit} key={JSON.stringify(filter)}>
      <div class="chips" role="group" aria-label="Status">
        {STATUSES.map((status) => (
          <a key={status} class="chip" aria-current={(filter.status ?? "") === status ? "true" : undefined} href={link("events", { ...filter, status })}>
            {status || "all"}
          </a>
        ))}
      </div>
      <div class="fields">
        <label class="field">User<input name="user_id" defaultValue={filter.user_id} inputMode={about.user_ids === "number" ? "numeric" : "text"} /></label>
        <label class="field">
          Type
          <select name="resource_type" defaultValue={filter.resource_type ?? ""}>
            <option value="">any</option>
            {about.resource_types.map((type) => <option key={type} selected={type === filter.resource_type}>{type}</option>)}
          </select>
        </label>
        <label class="field">Resource<input name="resource_id" defaultValue={filter.resource_id} /></label>
        <label class="field wide">Error contains<input name="error" defaultValue={filter.error} maxLength={200} /></label>
        <label class="field">Recorded since<input type="datetime-local" step="1" name="since" defaultValue={local(filter.since)} /></label>
        <label class="field">and before<input type="datetime-local" step="1" name="until" defaultValue={local(filter.until)} /></label>
        <div class="actions">
          <button type="submit" class="primary">Filter</button>
          {Object.keys(filter).length > 0 && <a class="button" href={link("events")}>Clear</a>}
        </div>
      </div>
    </form>
  );
}

const isRetried = (entry: LedgerEntry) => entry.status === "failed" || entry.status === "dead";
const isDiscarded = (entry: LedgerEntry) => entry.status !== "completed" && entry.status !== "dead";

type Action = "retry" | "discard";

/** Says what a dry run counted. */
function Dry({ counted, action }: { counted: Counted; action: Action }) {
  const rows = Object.entries(counted.rows as Record<string, number>).filter(([, number]) => number > 0);
  return (
    <>
      <p class="dry-run">
        {action === "retry" ? "Retries" : "Discards"} <b>{plural(counted.total, "event")}</b>
        {rows.length > 0 && <>: {rows.map(([status, number]) => `${whole(number)} ${status}`).join(", ")}</>}.
      </p>
      <p class="hint">
        This was a dry run. {action === "retry"
          ? "A job retries the events that match now, each with all its attempts. It can be cancelled."
          : "A job closes the events that match now as dead, and their likes are taken back. It can be cancelled; what it has closed stays closed."}
      </p>
    </>
  );
}

export function Events({ parameters }: { parameters: URLSearchParams }) {
  const filter = filterOf(parameters);
  const key = JSON.stringify(filter);
  const mayOperate = useMayOperate();
  const [selected, setSelected] = useState<Set<string>>(new Set());
  const [more, setMore] = useState<LedgerEntry[]>([]);
  const [next, setNext] = useState<string | undefined>();
  const [job, setJob] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  // What is read further down or selected does not move under the operator.
  const isPaused = selected.size > 0 || more.length > 0;
  const page = useQuery<LedgerPage>(`admin/ledger/events${query({ ...filter, limit: PAGE })}`, 4_000, isPaused);
  useEffect(() => {
    setSelected(new Set());
    setMore([]);
    setJob(null);
  }, [key]);
  useEffect(() => {
    if (more.length === 0) setNext(page.value?.next_cursor ?? undefined);
  }, [page.value, more]);

  const rows = [...(page.value?.events ?? []), ...more];
  const chosen = rows.filter((row) => selected.has(row.event_id));
  const hasFilter = Object.keys(filter).length > 0;

  const loadMore = async () => {
    try {
      const answer = await request<LedgerPage>(`admin/ledger/events${query({ ...filter, limit: PAGE, cursor: next })}`);
      setMore((before) => [...before, ...answer.events]);
      setNext(answer.next_cursor ?? undefined);
    } catch (error) {
      tellError(message(error));
    }
  };
  const toggle = (id: string) => {
    const now = new Set(selected);
    if (!now.delete(id)) now.add(id);
    setSelected(now);
  };
  const reload = () => {
    setSelected(new Set());
    setMore([]);
    page.reload();
  };

  /** Retries or discards the selected rows, one after the other. */
  const onSelected = async (action: Action) => {
    const ids = chosen.filter(action === "retry" ? isRetried : isDiscarded).map((row) => row.event_id);
    const asked = await ask({
      title: `${action === "retry" ? "Retry" : "Discard"} ${plural(ids.length, "selected event")}?`,
      body: ids.length < chosen.length ? `${plural(chosen.length - ids.length, "selected row")} cannot be ${action === "retry" ? "retried" : "discarded"} and stay as they are.` : action === "retry" ? "Each is retried at once, with all its attempts." : "Each is closed as dead, and its like is taken back.",
      action: action === "retry" ? "Retry" : "Discard",
      isDestructive: action === "discard",
      reason: action === "discard" ? "Why, for the record" : undefined,
    });
    if (!asked) return;
    setBusy(true);
    let done = 0;
    const failures: string[] = [];
    for (const id of ids) {
      try {
        const body = action === "discard" ? { reason: asked.reason } : undefined;
        await request(`admin/ledger/events/${id}/${action}`, { method: "POST", body });
        done += 1;
      } catch (error) {
        failures.push(message(error));
      }
    }
    setBusy(false);
    tell(`${plural(done, "event")} ${action === "retry" ? "retried" : "discarded"}`);
    if (failures.length > 0) tellError(`${plural(failures.length, "event")} failed: ${failures[0]}`);
    reload();
  };

  /** Counts all that match by a dry run, then makes a job of them. */
  const onAll = async (action: Action) => {
    setBusy(true);
    try {
      const body = { kind: action, filter };
      const counted = await request<Counted>("admin/jobs", { method: "POST", body: { ...body, dry_run: true } });
      setBusy(false);
      if (counted.total === 0) {
        tell(`no event that matches can be ${action === "retry" ? "retried" : "discarded"}`);
        return;
      }
      const asked = await ask({
        title: `${action === "retry" ? "Retry" : "Discard"} all that match?`,
        body: <Dry counted={counted} action={action} />,
        action: `${action === "retry" ? "Retry" : "Discard"} ${plural(counted.total, "event")}`,
        isDestructive: action === "discard",
        reason: action === "discard" ? "Why, for the record" : undefined,
      });
      if (!asked) return;
      const reason = action === "discard" ? asked.reason : undefined;
      const created = await request<Job>("admin/jobs", { method: "POST", body: { ...body, reason } });
      setJob(created.id);
      reload();
    } catch (error) {
      setBusy(false);
      tellError(message(error));
    }
  };

  const canRetry = !filter.status || filter.status === "failed" || filter.status === "dead";
  const canDiscard = filter.status !== "completed" && filter.status !== "dead";
  return (
    <Page title="Events" intro="Every like and unlike has one row in the ledger, from its acceptance to its end.">
      <FilterForm filter={filter} />
      {job && <JobProgress id={job} onEnd={reload} onClose={() => setJob(null)} />}
      {mayOperate && rows.length > 0 && (chosen.length > 0 || !hasFilter || canRetry || canDiscard) && (
        <div class={`bar ${chosen.length > 0 ? "active" : ""}`} role="group" aria-label="Actions">
          {chosen.length > 0 ? (
            <>
              <b>{whole(chosen.length)} selected</b>
              <button type="button" disabled={isBusy || !chosen.some(isRetried)} onClick={() => onSelected("retry")}>Retry</button>
              <button type="button" class="danger" disabled={isBusy || !chosen.some(isDiscarded)} onClick={() => onSelected("discard")}>Discard</button>
              <button type="button" class="plain" onClick={() => setSelected(new Set())}>Clear</button>
              <span class="hint">Updates pause while rows are selected.</span>
            </>
          ) : (
            <>
              <span>{hasFilter ? "All that match:" : "Filter to act on all that match, or select rows."}</span>
              {hasFilter && canRetry && <button type="button" disabled={isBusy} onClick={() => onAll("retry")}><Icon name="restart" />Retry all…</button>}
              {hasFilter && canDiscard && <button type="button" class="danger" disabled={isBusy} onClick={() => onAll("discard")}>Discard all…</button>}
            </>
          )}
        </div>
      )}
      {page.error && page.value && <Notice kind="error">{page.error}</Notice>}
      {!page.value ? (
        <Waiting error={page.error} />
      ) : rows.length === 0 && !next ? (
        <Empty>{hasFilter ? "No event matches." : "The ledger is empty: nobody has liked anything yet."}</Empty>
      ) : (
        <Table
          label="Events"
          head={
            <>
              {mayOperate && (
                <th class="select">
                  <input
                    type="checkbox"
                    aria-label={`Select all ${rows.length} rows shown`}
                    checked={chosen.length === rows.length && rows.length > 0}
                    onChange={() => setSelected(chosen.length === rows.length ? new Set() : new Set(rows.map((row) => row.event_id)))}
                  />
                </th>
              )}
              <th>Event</th><th>Status</th><th>User</th><th>Resource</th><th class="number">Attempts</th><th>Recorded</th><th>Error</th>
            </>
          }
        >
          {rows.map((row) => (
            <tr key={row.event_id} aria-selected={selected.has(row.event_id)}>
              {mayOperate && (
                <td class="select">
                  <input type="checkbox" aria-label={`Select event ${row.event_id}`} checked={selected.has(row.event_id)} onChange={() => toggle(row.event_id)} />
                </td>
              )}
              <td><a href={link(`events/${row.event_id}`)}><code>{row.event_id.slice(0, 8)}…{row.event_id.slice(-4)}</code></a></td>
              <td><State state={row.status} /></td>
              <td><code>{String(row.user_id)}</code></td>
              <td>{row.action} <code>{row.resource_type} {String(row.resource_id)}</code></td>
              <td class="number">{row.retry_count} / {row.max_retries}</td>
              <td title={row.created_at}>{time(row.created_at)}</td>
              <td class="error-text" title={row.error_message ?? ""}>{row.error_message ?? ""}{row.status === "failed" && row.next_attempt_at ? <span class="hint"> next attempt {time(row.next_attempt_at)}</span> : null}</td>
            </tr>
          ))}
        </Table>
      )}
      {next && <div class="actions center"><button type="button" onClick={loadMore}>Load more</button></div>}
      {more.length > 0 && <p class="hint center">{whole(rows.length)} rows. Updates pause below the first page; <button type="button" class="link" onClick={reload}>return to the newest</button>, loaded {ago(page.value?.events[0]?.created_at)}.</p>}
    </Page>
  );
}
