// Messages that could not be decoded: the list, and what an operator does to the selected ones or to all that match.

import { type QuarantinePage, type Quarantined, query, request } from "./api";
import { type Action, Bar, More, Select, useAll, useEach } from "./bulk";
import { Chips, FilterForm, TextField, TimeField, given } from "./filter";
import { time } from "./format";
import { link } from "./hooks";
import { JobProgress } from "./jobs";
import { usePages } from "./pages";
import { useMayOperate } from "./session";
import { Empty, Notice, Page, Table, Waiting } from "./ui";

const PAGE = 50;
const VIEWS = [["", "unresolved"], ["resolved", "resolved"], ["all", "all"]] as const;
const FIELDS = ["reason", "subject", "since", "until"] as const;

const REPUBLISH: Action & { kind: "republish"; path: "republish" } = {
  kind: "republish", path: "republish", verb: "Republish", does: "Republishes", done: "republished", one: "message", isDestructive: false,
  job: "A job publishes the messages that match now again, as they are. One that still cannot be decoded stays here. It can be cancelled.",
};
const DISCARD: Action & { kind: "discard_messages"; path: "discard" } = {
  kind: "discard_messages", path: "discard", verb: "Discard", does: "Discards", done: "discarded", one: "message", isDestructive: true,
  job: "A job closes the messages that match now without effect. The database keeps them for the record. It can be cancelled; what it has closed stays closed.",
};

export function Quarantine({ parameters }: { parameters: URLSearchParams }) {
  const show = parameters.get("show") ?? "";
  const isOpen = show === "";
  const resolved = show === "all" ? undefined : String(!isOpen);
  const filter = given(parameters, FIELDS);
  const hasFilter = Object.keys(filter).length > 0;
  const mayOperate = useMayOperate() && isOpen;
  const each = useEach();
  const pages = usePages<QuarantinePage, Quarantined>(
    (cursor) => `admin/quarantine${query({ ...filter, resolved, limit: PAGE, cursor })}`,
    (page) => page.messages,
    (row) => row.id,
  );
  const all = useAll(pages, JSON.stringify([show, filter]));
  const { page, rows, chosen } = pages;

  const onSelected = async (action: typeof REPUBLISH | typeof DISCARD) => {
    const note = action === REPUBLISH ? "Each is published again as it is. One that still cannot be decoded stays here." : "Each is closed without effect. The database keeps it for the record.";
    const ran = await each.run(action, chosen, note, (row) => request(`admin/quarantine/${row.id}/${action.path}`, { method: "POST" }));
    if (ran) pages.reload();
  };
  const onAll = (action: typeof REPUBLISH | typeof DISCARD) => all.run({ kind: action.kind, messages: filter }, action);

  return (
    <Page title="Quarantine" intro="Messages of the stream that are no valid event. Each keeps its bytes until an operator decides.">
      <FilterForm
        label="Filter messages"
        view="quarantine"
        filter={filter}
        kept={{ show }}
        chips={<Chips label="Which messages" choices={VIEWS} current={show} to={(one) => link("quarantine", { ...filter, show: one })} />}
      >
        <TextField label="Reason contains" name="reason" value={filter.reason} />
        <TextField label="Subject contains" name="subject" value={filter.subject} />
        <TimeField label="Arrived since" name="since" value={filter.since} />
        <TimeField label="and before" name="until" value={filter.until} />
      </FilterForm>
      {all.job && <JobProgress id={all.job} onEnd={pages.reload} onClose={all.close} />}
      {mayOperate && rows.length > 0 && (
        <Bar
          pages={pages}
          each={each}
          all={hasFilter ? "All that match:" : "All unresolved:"}
          selected={
            <>
              <button type="button" onClick={() => onSelected(REPUBLISH)}>Republish</button>
              <button type="button" class="danger" onClick={() => onSelected(DISCARD)}>Discard</button>
            </>
          }
        >
          <button type="button" aria-disabled={all.isBusy} onClick={() => onAll(REPUBLISH)}>Republish all…</button>
          <button type="button" class="danger" aria-disabled={all.isBusy} onClick={() => onAll(DISCARD)}>Discard all…</button>
        </Bar>
      )}
      {page.error && page.value && <Notice kind="error">{page.error}</Notice>}
      {!page.value ? (
        <Waiting error={page.error} />
      ) : rows.length === 0 ? (
        <Empty icon="shield">{isOpen && !hasFilter ? "Nothing is in quarantine." : "There is no such message."}</Empty>
      ) : (
        <Table
          label="Messages in quarantine"
          head={
            <>
              {mayOperate && <th class="select"><Select pages={pages} label={`Select all ${rows.length} rows shown`} /></th>}
              <th>Message</th><th>Why</th><th>Subject</th><th class="number">Sequence</th><th>Arrived</th><th>Resolved</th>
            </>
          }
        >
          {rows.map((row) => (
            <tr key={row.id} aria-selected={pages.isSelected(row)}>
              {mayOperate && <td class="select"><Select pages={pages} row={row} label={`Select message ${row.id}`} /></td>}
              <td><a href={link(`quarantine/${row.id}`)}><code>{row.id.slice(0, 8)}…{row.id.slice(-4)}</code></a></td>
              <td class="error-text">{row.reason}</td>
              <td><code>{row.subject}</code></td>
              <td class="number">{String(row.stream_sequence)}</td>
              <td title={row.created_at}>{time(row.created_at)}</td>
              <td>{row.resolution ? `${row.resolution} by ${row.resolved_by}` : "–"}</td>
            </tr>
          ))}
        </Table>
      )}
      <More pages={pages} />
    </Page>
  );
}
