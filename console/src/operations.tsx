// What operators did: who, what, to what, when, and the result.

import { useEffect, useState } from "preact/hooks";
import { type Operation, type OperationPage, message, query, request } from "./api";
import { time, words } from "./format";
import { link, useQuery } from "./hooks";
import { Empty, Page, State, Table, Waiting, tellError } from "./ui";

const PAGE = 50;
const ACTIONS = ["", "pause", "resume", "restart", "create", "cancel", "retry", "discard", "republish"];

/** The view of what an operation was done to. */
function target({ target_type, target, process }: Operation) {
  const text = <code>{target}</code>;
  if (target_type === "actor") return <a href={link(`actors/${target}`, { process: process ?? undefined })}>{words(target)}</a>;
  if (target_type === "job") return <a href={link(`jobs/${target}`)}>{text}</a>;
  if (target_type === "event") return <a href={link(`events/${target}`)}>{text}</a>;
  if (target_type === "quarantined_message") return <a href={link(`quarantine/${target}`)}>{text}</a>;
  return text;
}

export function Operations({ parameters }: { parameters: URLSearchParams }) {
  const [action, operator] = [parameters.get("action") ?? "", parameters.get("operator") ?? ""];
  const [more, setMore] = useState<Operation[]>([]);
  const [next, setNext] = useState<string | undefined>();
  const path = (cursor?: string) => `admin/operations${query({ action, operator, limit: PAGE, cursor })}`;
  const page = useQuery<OperationPage>(path(), 4_000, more.length > 0);
  useEffect(() => setMore([]), [action, operator]);
  const rows = [...(page.value?.operations ?? []), ...more];
  const cursor = more.length > 0 ? next : page.value?.next_cursor;
  const loadMore = async () => {
    try {
      const answer = await request<OperationPage>(path(cursor!));
      setMore((before) => [...before, ...answer.operations]);
      setNext(answer.next_cursor ?? undefined);
    } catch (error) {
      tellError(message(error));
    }
  };
  const submit = (event: Event) => {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    location.hash = link("operations", { action, operator: String(form.get("operator")).trim() });
  };
  return (
    <Page title="Operations" intro="What operators did, and what came of it.">
      <div class="chips" role="group" aria-label="Action">
        {ACTIONS.map((one) => <a key={one} class="chip" aria-current={one === action ? "true" : undefined} href={link("operations", { action: one, operator })}>{one || "all"}</a>)}
      </div>
      <form class="filter" role="search" aria-label="Filter operations" onSubmit={submit} key={operator}>
        <div class="fields">
          <label class="field">Operator<input name="operator" defaultValue={operator} maxLength={255} /></label>
          <div class="actions"><button type="submit" class="primary">Filter</button></div>
        </div>
      </form>
      {!page.value ? (
        <Waiting error={page.error} />
      ) : rows.length === 0 ? (
        <Empty>No operation matches.</Empty>
      ) : (
        <Table label="Operations" head={<><th>When</th><th>Operator</th><th>Action</th><th>On</th><th>Process</th><th>Result</th></>}>
          {rows.map((row) => (
            <tr key={row.id}>
              <td title={row.created_at}>{time(row.created_at)}</td>
              <td>{row.operator}</td>
              <td>{row.action}</td>
              <td>{words(row.target_type)} {target(row)}</td>
              <td>{row.process ? <code>{row.process.slice(0, 8)}</code> : "–"}</td>
              <td><State state={row.result} />{row.detail ? <span class="hint"> {row.detail}</span> : null}</td>
            </tr>
          ))}
        </Table>
      )}
      {cursor && <div class="actions center"><button type="button" onClick={loadMore}>Load more</button></div>}
    </Page>
  );
}
