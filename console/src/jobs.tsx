// Jobs: their progress, cancelling one, and starting an audit, a rebuild or pruning.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Job, message, request } from "./api";
import { plural, time, whole, words } from "./format";
import { link, useQuery } from "./hooks";
import { Icon } from "./icons";
import { useMayOperate } from "./session";
import { Card, Empty, Facts, Notice, Page, Progress, State, Table, Waiting, ask, tell, tellError } from "./ui";

const isOpen = (job: Job) => job.state === "queued" || job.state === "running";

export function progress(job: Job): string {
  const of = job.total === null || job.total === undefined ? "" : ` of ${whole(job.total)}`;
  return `${whole(job.done)}${of} done, ${whole(job.changed)} changed`;
}

export async function cancel(job: Job): Promise<boolean> {
  const asked = await ask({ title: `Cancel the job: ${words(job.kind)}?`, body: "What it has changed so far stays.", action: "Cancel the job", isDestructive: true });
  if (!asked) return false;
  try {
    await request(`admin/jobs/${job.id}/cancel`, { method: "POST" });
    tell("job cancelled");
    return true;
  } catch (error) {
    tellError(message(error));
    return false;
  }
}

/** The progress of a job that was just created. */
export function JobProgress({ id, onEnd, onClose }: { id: string; onEnd: () => void; onClose: () => void }) {
  const answer = useQuery<Job>(`admin/jobs/${id}`, 700);
  const job = answer.value;
  // The job whose end was told: another job may follow in the same place.
  const ended = useRef("");
  useEffect(() => {
    if (job && !isOpen(job) && ended.current !== job.id) {
      ended.current = job.id;
      onEnd();
    }
  }, [job?.id, job?.state]);
  if (!job) return <Waiting error={answer.error} />;
  return (
    <div class="job-progress" role="status">
      <a href={link(`jobs/${job.id}`)}><b>{words(job.kind)}</b></a>
      <State state={job.state} />
      <Progress done={job.done} total={job.total} label={`Progress of the job: ${words(job.kind)}`} />
      <span>{progress(job)}</span>
      {isOpen(job) && job.kind !== "erase" ? (
        <button type="button" onClick={async () => (await cancel(job)) && answer.reload()}>Cancel</button>
      ) : (
        <button type="button" class="plain" aria-label="Close" onClick={onClose}><Icon name="close" /></button>
      )}
      {job.error_message && <Notice kind="error">{job.error_message}</Notice>}
    </div>
  );
}

/** Asks for a job and shows it. */
export async function start(body: object, question: Parameters<typeof ask>[0]): Promise<Job | undefined> {
  if (!(await ask(question))) return undefined;
  try {
    return await request<Job>("admin/jobs", { method: "POST", body });
  } catch (error) {
    tellError(message(error));
    return undefined;
  }
}

const KINDS = ["", "retry", "discard", "republish", "discard_messages", "retry_webhooks", "discard_webhooks", "audit", "rebuild", "prune", "void", "restore", "erase"];

export function Jobs({ parameters }: { parameters: URLSearchParams }) {
  const kind = parameters.get("kind") ?? "";
  const answer = useQuery<{ jobs: Job[] }>(`admin/jobs?limit=100${kind && `&kind=${kind}`}`, 2_000);
  const mayOperate = useMayOperate();
  const begin = async (body: object, question: Parameters<typeof ask>[0]) => {
    const job = await start(body, question);
    if (job) location.hash = link(`jobs/${job.id}`);
  };
  const jobs = answer.value?.jobs;
  return (
    <Page
      title="Jobs"
      intro="Work on many rows. One worker at a time runs a job, and another resumes it after a crash."
      actions={mayOperate && (
        <>
          <button type="button" onClick={() => begin({ kind: "rebuild", what: "all" }, { title: "Rebuild read models, counts and cache?", body: "A job folds all behaviors again and repairs what differs. It reads every row.", action: "Rebuild" })}>Rebuild…</button>
          <button type="button" onClick={() => begin({ kind: "audit" }, { title: "Audit the data?", body: "A job compares behaviors, ledger, read models, counts and cache. It changes nothing.", action: "Audit" })}>Audit…</button>
        </>
      )}
    >
      <div class="chips" role="group" aria-label="Kind">
        {KINDS.map((one) => <a key={one} class="chip" aria-current={one === kind ? "true" : undefined} href={link("jobs", { kind: one })}>{words(one) || "all"}</a>)}
      </div>
      {!jobs ? (
        <Waiting error={answer.error} />
      ) : jobs.length === 0 ? (
        <Empty>There was no such job.</Empty>
      ) : (
        <Table label="Jobs" head={<><th>Job</th><th>State</th><th>Progress</th><th>Asked by</th><th>Created</th><th>Ended</th></>}>
          {jobs.map((job) => (
            <tr key={job.id}>
              <td><a href={link(`jobs/${job.id}`)}>{words(job.kind)}</a></td>
              <td><State state={job.state} /></td>
              <td>{isOpen(job) && <Progress done={job.done} total={job.total} label={`Progress of the job: ${words(job.kind)}`} />} {progress(job)}</td>
              <td>{job.requested_by}</td>
              <td title={job.created_at}>{time(job.created_at)}</td>
              <td>{time(job.finished_at)}</td>
            </tr>
          ))}
        </Table>
      )}
    </Page>
  );
}

export function JobView({ id }: { id: string }) {
  const [isEnded, setEnded] = useState(false);
  const answer = useQuery<Job>(`admin/jobs/${encodeURIComponent(id)}`, isEnded ? 0 : 1_000);
  const mayOperate = useMayOperate();
  const job = answer.value;
  useEffect(() => setEnded(job !== undefined && !isOpen(job)), [job?.state]);
  if (!job) return <Page title="Job"><Waiting error={answer.error} /></Page>;
  return (
    <Page
      title={`Job: ${words(job.kind)}`}
      intro={<code>{job.id}</code>}
      actions={mayOperate && isOpen(job) && job.kind !== "erase" && <button type="button" class="danger" onClick={async () => (await cancel(job)) && answer.reload()}>Cancel…</button>}
    >
      <Card title="Progress" aside={<State state={job.state} />}>
        {isOpen(job) && <Progress done={job.done} total={job.total} label={`Progress of the job: ${words(job.kind)}`} />}
        <Facts
          of={[
            ["Rows", progress(job)],
            ["Asked by", job.requested_by],
            ["Created", time(job.created_at)],
            ["Last moved", time(job.updated_at)],
            ["Ended", time(job.finished_at)],
          ]}
        />
        {job.error_message && <Notice kind="error">{job.error_message}</Notice>}
      </Card>
      <div class="columns">
        <Card title="What it does"><pre class="wrap">{JSON.stringify(job.spec, null, 2)}</pre></Card>
        {job.result !== null && job.result !== undefined && (
          <Card title="Result" aside={<span>{plural(job.changed, "row")} changed</span>}>
            {job.kind === "audit" && <p><a href={link("audit")}>The findings as a table</a></p>}
            <pre class="wrap">{JSON.stringify(job.result, null, 2)}</pre>
          </Card>
        )}
      </div>
    </Page>
  );
}
