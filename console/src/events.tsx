// The events of the ledger: a filter that the address keeps, a page of rows, and what an operator does to the selected
// ones or to all that match.

import { type LedgerEntry, type LedgerPage, query, request } from "./api";
import { type Action, Bar, More, Select, useAll, useEach } from "./bulk";
import { Chips, FilterForm, TextField, TimeField, TypeField, given } from "./filter";
import { plural, time } from "./format";
import { link } from "./hooks";
import { Icon } from "./icons";
import { JobProgress } from "./jobs";
import { usePages } from "./pages";
import { useMayOperate } from "./session";
import { Empty, Notice, Page, State, Table, Waiting } from "./ui";

const STATUSES = ["", "pending", "processing", "failed", "dead", "completed"].map((status) => [status, status || "all"] as const);
const FIELDS = ["status", "resource_type", "resource_id", "user_id", "since", "until", "error"] as const;
const PAGE = 50;

const isRetried = (entry: LedgerEntry) => entry.status === "failed" || entry.status === "dead";
const isDiscarded = (entry: LedgerEntry) => entry.status !== "completed" && entry.status !== "dead";

/** What an action does to one row, and to more. */
interface Effect {
  effect: { one: string; many: string };
}

const RETRY: Action & Effect & { kind: "retry" } = {
  effect: {
    one: "It is tried again at once, and its failed attempts no longer count.",
    many: "They are tried again at once, and their failed attempts no longer count.",
  },
  kind: "retry", verb: "Retry", does: "Retries", done: "retried", one: "event", isDestructive: false,
  job: "A job tries the events that match now again, and their failed attempts no longer count. It can be cancelled.",
};
const DISCARD: Action & Effect & { kind: "discard" } = {
  effect: {
    one: "It is closed as dead, and its like is taken back.",
    many: "They are closed as dead, and their likes are taken back.",
  },
  kind: "discard", verb: "Discard", does: "Discards", done: "discarded", one: "event", isDestructive: true, hasReason: true,
  job: "A job closes the events that match now as dead, and their likes are taken back. It can be cancelled; what it has closed stays closed.",
};

export function Events({ parameters }: { parameters: URLSearchParams }) {
  const filter = given(parameters, FIELDS);
  const mayOperate = useMayOperate();
  const each = useEach();
  const pages = usePages<LedgerPage, LedgerEntry>(
    (cursor) => `admin/ledger/events${query({ ...filter, limit: PAGE, cursor })}`,
    (page) => page.events,
    (row) => row.event_id,
  );
  const all = useAll(pages, JSON.stringify(filter));
  const { page, rows, chosen } = pages;
  const hasFilter = Object.keys(filter).length > 0;

  const onSelected = async (action: typeof RETRY | typeof DISCARD) => {
    const able = chosen.filter(action === RETRY ? isRetried : isDiscarded);
    const left = chosen.length - able.length;
    const note = left > 0
      ? `${plural(left, "selected row")} cannot be ${action.done} and ${left === 1 ? "stays as it is" : "stay as they are"}.`
      : able.length === 1 ? action.effect.one : action.effect.many;
    const ran = await each.run(action, able, note, (row, reason) => {
      const body = action.hasReason ? { reason } : undefined;
      return request(`admin/ledger/events/${row.event_id}/${action.kind}`, { method: "POST", body });
    });
    if (ran) pages.reload();
  };
  const onAll = (action: typeof RETRY | typeof DISCARD) => all.run({ kind: action.kind, filter }, action);

  const canRetry = !filter.status || filter.status === "failed" || filter.status === "dead";
  const canDiscard = filter.status !== "completed" && filter.status !== "dead";
  return (
    <Page title="Events" intro="Every like and unlike has one row in the ledger, from its acceptance to its end.">
      <FilterForm
        label="Filter events"
        view="events"
        filter={filter}
        kept={{ status: filter.status }}
        chips={<Chips label="Status" choices={STATUSES} current={filter.status ?? ""} to={(status) => link("events", { ...filter, status })} />}
      >
        <TextField label="User" name="user_id" value={filter.user_id} />
        <TypeField value={filter.resource_type} />
        <TextField label="Resource" name="resource_id" value={filter.resource_id} />
        <TextField label="Error contains" name="error" value={filter.error} wide />
        <TimeField label="Recorded since" name="since" value={filter.since} />
        <TimeField label="and before" name="until" value={filter.until} />
      </FilterForm>
      {all.job && <JobProgress id={all.job} onEnd={pages.reload} onClose={all.close} />}
      {mayOperate && rows.length > 0 && (chosen.length > 0 || !hasFilter || canRetry || canDiscard) && (
        <Bar
          pages={pages}
          each={each}
          all={hasFilter ? "All that match:" : "Filter to act on all that match, or select rows."}
          selected={
            <>
              <button type="button" disabled={!chosen.some(isRetried)} onClick={() => onSelected(RETRY)}>Retry</button>
              <button type="button" class="danger" disabled={!chosen.some(isDiscarded)} onClick={() => onSelected(DISCARD)}>Discard</button>
            </>
          }
        >
          {hasFilter && canRetry && <button type="button" aria-disabled={all.isBusy} onClick={() => onAll(RETRY)}><Icon name="restart" />Retry all…</button>}
          {hasFilter && canDiscard && <button type="button" class="danger" aria-disabled={all.isBusy} onClick={() => onAll(DISCARD)}>Discard all…</button>}
        </Bar>
      )}
      {page.error && page.value && <Notice kind="error">{page.error}</Notice>}
      {!page.value ? (
        <Waiting error={page.error} />
      ) : rows.length === 0 && !pages.loadMore ? (
        <Empty>{hasFilter ? "No event matches." : "The ledger is empty: nobody has liked anything yet."}</Empty>
      ) : (
        <Table
          label="Events"
          head={
            <>
              {mayOperate && <th class="select"><Select pages={pages} label={`Select all ${rows.length} rows shown`} /></th>}
              <th>Event</th><th>Status</th><th>User</th><th>Resource</th><th class="number">Failed attempts</th><th>Recorded</th><th>Error</th>
            </>
          }
        >
          {rows.map((row) => (
            <tr key={row.event_id} aria-selected={pages.isSelected(row)}>
              {mayOperate && <td class="select"><Select pages={pages} row={row} label={`Select event ${row.event_id}`} /></td>}
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
      <More pages={pages} />
    </Page>
  );
}
