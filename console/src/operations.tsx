// What operators did: who, what, to what, when, and the result.

import { type Operation, type OperationPage, query } from "./api";
import { More } from "./bulk";
import { Chips, FilterForm, TextField, given } from "./filter";
import { time, words } from "./format";
import { link } from "./hooks";
import { usePages } from "./pages";
import { Empty, Page, State, Table, Waiting } from "./ui";

const PAGE = 50;
const ACTIONS = ["", "pause", "resume", "restart", "create", "cancel", "retry", "discard", "republish"].map((action) => [action, action || "all"] as const);
const FIELDS = ["action", "operator"] as const;

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
  const filter = given(parameters, FIELDS);
  const pages = usePages<OperationPage, Operation>(
    (cursor) => `admin/operations${query({ ...filter, limit: PAGE, cursor })}`,
    (page) => page.operations,
    (row) => row.id,
  );
  const { page, rows } = pages;
  return (
    <Page title="Operations" intro="What operators did, and what came of it.">
      <FilterForm
        label="Filter operations"
        view="operations"
        filter={filter}
        kept={{ action: filter.action }}
        chips={<Chips label="Action" choices={ACTIONS} current={filter.action ?? ""} to={(action) => link("operations", { ...filter, action })} />}
      >
        <TextField label="Operator" name="operator" value={filter.operator} />
      </FilterForm>
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
      <More pages={pages} />
    </Page>
  );
}
