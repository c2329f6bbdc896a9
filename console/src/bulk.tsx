// What an operator does to many rows: to the selected ones, or to all that match, as a job after a dry run.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Counted, type Job, message, request } from "./api";
import { plural, whole } from "./format";
import type { Pages } from "./pages";
import { ask, tell, tellError } from "./ui";

/** An action and its words. */
export interface Action {
  /** On the button: `Retry`. */
  verb: string;
  /** What it does: `Retries`. */
  does: string;
  /** In the past: `retried`. */
  done: string;
  /** What it acts on: `event`. */
  one: string;
  isDestructive: boolean;
  /** Whether it needs a reason. */
  hasReason?: boolean;
  /** What a job of it does. */
  job: string;
}

const REASON = "Why, for the record";

/** Says what a dry run counted. */
function Dry({ counted, action }: { counted: Counted; action: Action }) {
  const rows = Object.entries(counted.rows as Record<string, number>).filter(([, number]) => number > 0);
  return (
    <>
      <p class="dry-run">
        {action.does} <b>{plural(counted.total, action.one)}</b>
        {rows.length > 0 && <>: {rows.map(([of, number]) => `${whole(number)} ${of}`).join(", ")}</>}.
      </p>
      <p class="hint">This was a dry run. {action.job}</p>
    </>
  );
}

/** The job on all that match in a list. */
export interface All {
  /** Its id; `null` before there is one. */
  job: string | null;
  isBusy: boolean;
  close: () => void;
  /** Makes a job of all that match, unless one is being made. */
  run: (body: object, action: Action) => Promise<void>;
}

/** The list is loaded again when a job is made. Another filter, which `key` names, closes its progress. */
export function useAll<P, R>(pages: Pages<P, R>, key: string): All {
  const [job, setJob] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  useEffect(() => setJob(null), [key]);
  const run: All["run"] = async (body, action) => {
    if (isBusy) return;
    setBusy(true);
    const created = await jobOfAll(body, action);
    setBusy(false);
    if (!created) return;
    setJob(created.id);
    pages.reload();
  };
  return { job, isBusy, close: () => setJob(null), run };
}

/** Counts all that match by a dry run, asks, and makes a job of them. `undefined` if there is none, or it is declined. */
async function jobOfAll(body: object, action: Action): Promise<Job | undefined> {
  try {
    const counted = await request<Counted>("admin/jobs", { method: "POST", body: { ...body, dry_run: true } });
    if (counted.total === 0) {
      tell(`no ${action.one} that matches can be ${action.done}`);
      return undefined;
    }
    const asked = await ask({
      title: `${action.verb} all that match?`,
      body: <Dry counted={counted} action={action} />,
      action: `${action.verb} ${plural(counted.total, action.one)}`,
      isDestructive: action.isDestructive,
      reason: action.hasReason ? REASON : undefined,
    });
    if (!asked) return undefined;
    const reason = action.hasReason ? asked.reason : undefined;
    return await request<Job>("admin/jobs", { method: "POST", body: { ...body, reason } });
  } catch (error) {
    tellError(message(error));
    return undefined;
  }
}

/** Acts on selected rows, one after the other. */
export interface Each {
  /** How far it is; empty if nothing runs. */
  progress: string;
  cancel: () => void;
  /** Asks, and acts on each row. `note` says what else the operator should know. */
  run: <R>(action: Action, rows: R[], note: ComponentChildren, act: (row: R, reason: string) => Promise<unknown>) => Promise<boolean>;
}

export function useEach(): Each {
  const [progress, setProgress] = useState("");
  const isCancelled = useRef(false);
  const run: Each["run"] = async (action, rows, note, act) => {
    const asked = await ask({
      title: `${action.verb} ${plural(rows.length, `selected ${action.one}`)}?`,
      body: note,
      action: action.verb,
      isDestructive: action.isDestructive,
      reason: action.hasReason ? REASON : undefined,
    });
    if (!asked) return false;
    isCancelled.current = false;
    let done = 0;
    const failures: string[] = [];
    for (const row of rows) {
      if (isCancelled.current) break;
      setProgress(`${whole(done + failures.length)} of ${whole(rows.length)}`);
      try {
        await act(row, asked.reason);
        done += 1;
      } catch (error) {
        failures.push(message(error));
      }
    }
    setProgress("");
    tell(`${plural(done, action.one)} ${action.done}`);
    if (failures.length > 0) tellError(`${plural(failures.length, action.one)} failed: ${failures[0]}`);
    return true;
  };
  return { progress, cancel: () => (isCancelled.current = true), run };
}

/** The bar above a list, with the actions on the selected rows or on all that match. */
export function Bar<P, R>({ pages, each, all, selected, children }: {
  pages: Pages<P, R>;
  each?: Each;
  /** What is said while nothing is selected. */
  all: string;
  /** The buttons for the selected rows. */
  selected: ComponentChildren;
  /** The buttons for all that match. */
  children: ComponentChildren;
}) {
  const { chosen } = pages;
  return (
    <div class={`bar ${chosen.length > 0 ? "active" : ""}`} role="group" aria-label="Actions">
      {each?.progress ? (
        <>
          <b role="status">{each.progress}</b>
          <button type="button" onClick={each.cancel}>Stop</button>
        </>
      ) : chosen.length > 0 ? (
        <>
          <b>{whole(chosen.length)} selected</b>
          {selected}
          <button type="button" class="plain" onClick={pages.clear}>Clear</button>
          <span class="hint">Updates pause while rows are selected.</span>
        </>
      ) : (
        <>
          <span>{all}</span>
          {children}
        </>
      )}
    </div>
  );
}

/** The checkbox of a row, or of all rows. */
export function Select<P, R>({ pages, row, label }: { pages: Pages<P, R>; row?: R; label: string }) {
  const { rows, chosen } = pages;
  const isChecked = row === undefined ? chosen.length === rows.length && rows.length > 0 : pages.isSelected(row);
  const onChange = () => (row === undefined ? pages.toggleAll() : pages.toggle(row));
  return <input type="checkbox" aria-label={label} checked={isChecked} onChange={onChange} />;
}

/** What follows a list: more rows, and the way back. */
export function More<P, R>({ pages }: { pages: Pages<P, R> }) {
  return (
    <>
      {pages.loadMore && <div class="actions center"><button type="button" onClick={pages.loadMore}>Load more</button></div>}
      {pages.hasMore && <p class="hint center">{whole(pages.rows.length)} rows. Updates pause below the first page; <button type="button" class="link" onClick={pages.reload}>return to the first page</button>.</p>}
    </>
  );
}
