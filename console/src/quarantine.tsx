// Messages that could not be decoded: read, mend and republish, or discard.

import { useState } from "preact/hooks";
import { type QuarantinePage, type Quarantined, message, query, request } from "./api";
import { plural, time, whole } from "./format";
import { link, useQuery } from "./hooks";
import { parse } from "./json";
import { useMayOperate } from "./session";
import { Card, Empty, Facts, Notice, Page, State, Table, Waiting, ask, tell, tellError } from "./ui";

const PAGE = 50;
const VIEWS = { open: "unresolved", resolved: "resolved", all: "all" } as const;

export function Quarantine({ parameters }: { parameters: URLSearchParams }) {
  const view = (parameters.get("show") ?? "open") as keyof typeof VIEWS;
  const resolved = view === "all" ? undefined : String(view === "resolved");
  const mayOperate = useMayOperate();
  const [selected, setSelected] = useState<Set<string>>(new Set());
  const [more, setMore] = useState<Quarantined[]>([]);
  const [next, setNext] = useState<string | null>(null);
  const [progress, setProgress] = useState("");
  const page = useQuery<QuarantinePage>(`admin/quarantine${query({ resolved, limit: PAGE })}`, 4_000, selected.size > 0 || more.length > 0);
  const rows = [...(page.value?.messages ?? []), ...more];
  const cursor = more.length > 0 ? next : page.value?.next_cursor;
  const chosen = rows.filter((row) => selected.has(row.id) && !row.resolution);

  const toggle = (id: string) => {
    const now = new Set(selected);
    if (!now.delete(id)) now.add(id);
    setSelected(now);
  };
  const load = (after: string) => request<QuarantinePage>(`admin/quarantine${query({ resolved, limit: PAGE, cursor: after })}`);
  const loadMore = async () => {
    const answer = await load(cursor!);
    setMore((before) => [...before, ...answer.messages]);
    setNext(answer.next_cursor ?? null);
  };
  const reload = () => {
    setSelected(new Set());
    setMore([]);
    page.reload();
  };

  /** The ids of all unresolved messages, page by page. */
  const all = async (): Promise<string[]> => {
    const ids: string[] = [];
    let after: string | undefined;
    do {
      const answer = await request<QuarantinePage>(`admin/quarantine${query({ resolved: "false", limit: 100, cursor: after })}`);
      ids.push(...answer.messages.map((one) => one.id));
      setProgress(`counted ${whole(ids.length)}`);
      after = answer.next_cursor ?? undefined;
    } while (after);
    return ids;
  };
  const resolve = async (action: "republish" | "discard", isAll: boolean) => {
    try {
      const ids = isAll ? await all() : chosen.map((row) => row.id);
      setProgress("");
      const word = action === "republish" ? "Republish" : "Discard";
      const asked = await ask({
        title: `${word} ${plural(ids.length, "message")}?`,
        body: action === "republish" ? "Each is published again as it is. One that still cannot be decoded stays here." : "Each is closed without effect. The database keeps it for the record.",
        action: `${word} ${plural(ids.length, "message")}`,
        isDestructive: action === "discard",
      });
      if (!asked) return;
      let [done, failed, why] = [0, 0, ""];
      for (const id of ids) {
        try {
          await request(`admin/quarantine/${id}/${action}`, { method: "POST" });
          done += 1;
        } catch (error) {
          failed += 1;
          why = message(error);
        }
        setProgress(`${whole(done + failed)} of ${whole(ids.length)}`);
      }
      setProgress("");
      tell(`${plural(done, "message")} ${action === "republish" ? "republished" : "discarded"}`);
      if (failed > 0) tellError(`${plural(failed, "message")} stayed: ${why}`);
      reload();
    } catch (error) {
      setProgress("");
      tellError(message(error));
    }
  };

  return (
    <Page title="Quarantine" intro="Messages of the stream that are no valid event. Each keeps its bytes until an operator decides.">
      <div class="chips" role="group" aria-label="Which messages">
        {Object.entries(VIEWS).map(([one, name]) => (
          <a key={one} class="chip" aria-current={one === view ? "true" : undefined} href={link("quarantine", { show: one === "open" ? undefined : one })}>{name}</a>
        ))}
      </div>
      {mayOperate && view === "open" && rows.length > 0 && (
        <div class={`bar ${chosen.length > 0 ? "active" : ""}`} role="group" aria-label="Actions">
          <b>{chosen.length > 0 ? `${whole(chosen.length)} selected` : "All unresolved:"}</b>
          <button type="button" disabled={progress !== ""} onClick={() => resolve("republish", chosen.length === 0)}>Republish{chosen.length === 0 ? " all…" : ""}</button>
          <button type="button" class="danger" disabled={progress !== ""} onClick={() => resolve("discard", chosen.length === 0)}>Discard{chosen.length === 0 ? " all…" : ""}</button>
          {chosen.length > 0 && <button type="button" class="plain" onClick={() => setSelected(new Set())}>Clear</button>}
          <span class="hint" role="status">{progress}</span>
        </div>
      )}
      {!page.value ? (
        <Waiting error={page.error} />
      ) : rows.length === 0 ? (
        <Empty icon="shield">{view === "open" ? "Nothing is in quarantine." : "There is no such message."}</Empty>
      ) : (
        <Table label="Messages in quarantine" head={<>{mayOperate && view === "open" && <th class="select"><span class="unseen">Select</span></th>}<th>Message</th><th>Why</th><th>Subject</th><th class="number">Sequence</th><th>Arrived</th><th>Resolved</th></>}>
          {rows.map((row) => (
            <tr key={row.id} aria-selected={selected.has(row.id)}>
              {mayOperate && view === "open" && <td class="select"><input type="checkbox" aria-label={`Select message ${row.id}`} checked={selected.has(row.id)} onChange={() => toggle(row.id)} /></td>}
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
      {cursor && <div class="actions center"><button type="button" onClick={loadMore}>Load more</button></div>}
    </Page>
  );
}

/** JSON with line breaks and the same digits. */
function pretty(payload: string): string {
  try {
    JSON.parse(payload);
  } catch {
    return payload;
  }
  // `parse` would make text of large numbers, which must stay numbers here.
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  return payload.replace(/"(?:[^"\\]|\\.)*"|\s+|[{}[\],:]/g, (token) => {
    if (/^\s/.test(token)) return "";
    if (token === "{" || token === "[") return (depth += 1), token + line();
    if (token === "}" || token === "]") return (depth -= 1), line() + token;
    if (token === ",") return `,${line()}`;
    return token === ":" ? ": " : token;
  });
}

export function QuarantinedView({ id }: { id: string }) {
  const answer = useQuery<Quarantined>(`admin/quarantine/${encodeURIComponent(id)}`);
  const found = answer.value;
  if (!found) return <Page title="Message in quarantine"><Waiting error={answer.error} /></Page>;
  return (
    <Page title="Message in quarantine" intro={<code>{found.id}</code>}>
      <Notice kind="warning">{found.reason}</Notice>
      <div class="columns">
        <Editor found={found} reload={answer.reload} key={String(found.resolution)} />
        <Card title="The message">
          <Facts
            of={[
              ["Subject", <code>{found.subject}</code>],
              ["Stream sequence", String(found.stream_sequence)],
              ["Nats-Msg-Id", found.message_id ? <code>{found.message_id}</code> : "–"],
              ["Arrived", time(found.created_at)],
              ["Resolved", found.resolution ? <><State state={found.resolution} /> by {found.resolved_by}, {time(found.resolved_at)}</> : "no"],
            ]}
          />
          <h3>Bytes</h3>
          <pre class="wrap hex">{found.payload_hex.replace(/(..)/g, "$1 ").trim() || "none"}</pre>
        </Card>
      </div>
    </Page>
  );
}

function Editor({ found, reload }: { found: Quarantined; reload: () => void }) {
  const mayOperate = useMayOperate() && !found.resolution;
  const original = pretty(found.payload);
  const [text, setText] = useState(original);
  const [refusal, setRefusal] = useState("");
  const [event, setEvent] = useState("");
  const isChanged = text !== original;
  let invalid = "";
  try {
    parse(text);
  } catch (error) {
    invalid = message(error);
  }
  const republish = async () => {
    const asked = await ask({
      title: isChanged ? "Republish the mended message?" : "Republish the message as it is?",
      body: "It is published on its subject again, and a worker records it.",
      action: "Republish",
    });
    if (!asked) return;
    setRefusal("");
    try {
      // The text itself is sent, so that its numbers keep their digits.
      const json = isChanged ? `{"payload":${text}}` : undefined;
      const answer = await request<{ event_id: string }>(`admin/quarantine/${found.id}/republish`, { method: "POST", json });
      setEvent(answer.event_id);
      tell("message republished");
    } catch (error) {
      setRefusal(message(error));
    }
  };
  const discard = async () => {
    const asked = await ask({ title: "Discard this message?", body: "It is closed without effect. The database keeps it for the record.", action: "Discard", isDestructive: true });
    if (!asked) return;
    try {
      await request(`admin/quarantine/${found.id}/discard`, { method: "POST" });
      tell("message discarded");
      reload();
    } catch (error) {
      tellError(message(error));
    }
  };
  return (
    <Card title={mayOperate ? "Mend and republish" : "Payload"}>
      <label class="field">
        Payload{isChanged ? ", changed" : ""}
        <textarea class="code" rows={14} spellcheck={false} value={text} readOnly={!mayOperate || event !== ""} onInput={(event) => setText(event.currentTarget.value)} aria-invalid={isChanged && invalid !== ""} />
      </label>
      {isChanged && invalid && <Notice kind="warning">This is no JSON: {invalid}</Notice>}
      {refusal && <Notice kind="error">{refusal}</Notice>}
      {event ? (
        <Notice kind="good">Published. <a href={link(`events/${event}`)}>Follow the event</a>.</Notice>
      ) : (
        mayOperate && (
          <div class="actions">
            <button type="button" class="primary" disabled={isChanged && invalid !== ""} onClick={republish}>Republish</button>
            {isChanged && <button type="button" onClick={() => setText(original)}>Undo the changes</button>}
            <button type="button" class="danger" onClick={discard}>Discard…</button>
          </div>
        )
      )}
    </Card>
  );
}
