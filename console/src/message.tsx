// One message in quarantine: read its bytes, mend and republish it, or discard it.

import { useState } from "preact/hooks";
import { type Quarantined, message, request } from "./api";
import { time } from "./format";
import { link, useQuery } from "./hooks";
import { parse } from "./json";
import { useMayOperate } from "./session";
import { Card, Facts, Notice, Page, State, Waiting, ask, tell, tellError } from "./ui";

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
        <textarea class="code" rows={14} maxLength={262_144} spellcheck={false} value={text} readOnly={!mayOperate || event !== ""} onInput={(event) => setText(event.currentTarget.value)} aria-invalid={isChanged && invalid !== ""} />
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
