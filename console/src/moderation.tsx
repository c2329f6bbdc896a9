// Voiding and restoring likes of a user: what would change, the decision with its reason, its progress, and what was decided
// before.

import { useEffect, useState } from "preact/hooks";
import { type CountedLikes, type Job, message, request } from "./api";
import { FilterForm, TextField, TimeField, TypeField, given } from "./filter";
import { plural, time, whole } from "./format";
import { link, useQuery } from "./hooks";
import { JobProgress, progress } from "./jobs";
import { useMayOperate } from "./session";
import { Card, Empty, Notice, Page, State, Table, Waiting, ask, tellError } from "./ui";

const FIELDS = ["user_id", "resource_type", "liked_after", "liked_before"] as const;
type Filter = Partial<Record<(typeof FIELDS)[number], string>>;

const DECISIONS = {
  void: {
    title: "Void",
    explains: "They do not count any more, and lists of likers omit them. The user still sees them.",
    none: "The user has no likes here that count.",
  },
  restore: {
    title: "Restore",
    explains: "They count again, as they are now.",
    none: "No like of the user is voided here.",
  },
} as const;
type Decision = keyof typeof DECISIONS;

const path = (user: string, decision: Decision) => `admin/users/${encodeURIComponent(user)}/likes/${decision}`;

function Preview({ filter, decision, round, onJob }: { filter: Filter; decision: Decision; round: number; onJob: (job: Job) => void }) {
  const { user_id: user = "", ...which } = filter;
  const [counted, setCounted] = useState<CountedLikes | undefined>();
  const [error, setError] = useState("");
  const { title, explains, none } = DECISIONS[decision];
  useEffect(() => {
    const controller = new AbortController();
    const count = async () => {
      try {
        setCounted(await request<CountedLikes>(path(user, decision), { method: "POST", body: { ...which, dry_run: true }, signal: controller.signal }));
        setError("");
      } catch (error) {
        if (!controller.signal.aborted) setError(message(error));
      }
    };
    void count();
    return () => controller.abort();
  }, [JSON.stringify(filter), round]);
  const likes = Object.entries((counted?.likes ?? {}) as Record<string, number>).filter(([, number]) => number > 0);
  const decide = async () => {
    const asked = await ask({
      title: `${title} ${plural(counted!.total, "like")} of user ${user}?`,
      body: `${likes.map(([type, number]) => `${whole(number)} ${type}`).join(", ")}. ${explains}`,
      action: `${title} ${plural(counted!.total, "like")}`,
      isDestructive: decision === "void",
      reason: "Why, for the record",
    });
    if (!asked) return;
    try {
      onJob(await request<Job>(path(user, decision), { method: "POST", body: { ...which, reason: asked.reason } }));
    } catch (error) {
      tellError(message(error));
    }
  };
  return (
    <Card title={decision === "void" ? "Likes that count" : "Voided likes"}>
      {error ? (
        <Notice kind="error">{error}</Notice>
      ) : !counted ? (
        <Waiting error="" />
      ) : (
        <div data-preview={decision}>
          <p class="figure-value">{whole(counted.total)}</p>
          <p class="hint">{counted.total === 0 ? none : likes.map(([type, number]) => `${whole(number)} ${type}`).join(", ")}</p>
          {counted.total > 0 && <div class="actions"><button type="button" class={decision === "void" ? "danger" : ""} onClick={decide}>{title} {plural(counted.total, "like")}…</button></div>}
        </div>
      )}
    </Card>
  );
}

/** The parameters of a job that voids or restores likes. */
interface Spec {
  likes_of?: { user_id: number | string; resource_type?: string; liked_after?: string; liked_before?: string };
  reason?: string;
}

function Decisions({ user, round }: { user: string | undefined; round: number }) {
  const limit = 100;
  const voided = useQuery<{ jobs: Job[] }>(`admin/jobs?kind=void&limit=${limit}`, 4_000);
  const restored = useQuery<{ jobs: Job[] }>(`admin/jobs?kind=restore&limit=${limit}`, 4_000);
  useEffect(() => {
    if (round > 0) {
      voided.reload();
      restored.reload();
    }
  }, [round]);
  if (!voided.value || !restored.value) return <Waiting error={voided.error || restored.error} />;
  const spec = (job: Job) => job.spec as Spec;
  const jobs = [...voided.value.jobs, ...restored.value.jobs]
    .filter((job) => user === undefined || String(spec(job).likes_of?.user_id) === user)
    .sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
  if (jobs.length === 0) return <Empty icon="user">{user ? `Nothing was decided about the likes of user ${user}.` : "No likes were voided yet."}</Empty>;
  return (
    <Table label="Decisions" head={<><th>Decision</th><th>User</th><th>Likes</th><th>Why</th><th>Who</th><th>When</th><th>State</th><th>Progress</th></>}>
      {jobs.map((job) => {
        const { likes_of: likes, reason } = spec(job);
        const id = String(likes?.user_id ?? "–");
        return (
          <tr key={job.id}>
            <td><a href={link(`jobs/${job.id}`)}>{job.kind}</a></td>
            <td><a href={link("likes", { user_id: id })}><code>{id}</code></a></td>
            <td>{likes?.resource_type ?? "all types"}{likes?.liked_after ? `, since ${time(likes.liked_after)}` : ""}{likes?.liked_before ? `, before ${time(likes.liked_before)}` : ""}</td>
            <td class="error-text">{reason}</td>
            <td>{job.requested_by}</td>
            <td title={job.created_at}>{time(job.created_at)}</td>
            <td><State state={job.state} /></td>
            <td>{progress(job)}</td>
          </tr>
        );
      })}
    </Table>
  );
}

export function Moderation({ parameters }: { parameters: URLSearchParams }) {
  const filter = given(parameters, FIELDS);
  const mayOperate = useMayOperate();
  const [job, setJob] = useState<string | null>(null);
  const [round, setRound] = useState(0);
  const again = () => setRound((round) => round + 1);
  useEffect(() => setJob(null), [filter.user_id]);
  return (
    <Page title="Void likes" intro="After a fraud, the likes of a user can be voided: they do not count until they are restored, and the user still sees them.">
      <FilterForm label="Find likes of a user" view="likes" filter={filter} action="Show likes">
        <TextField label="User" name="user_id" value={filter.user_id} required />
        <TypeField value={filter.resource_type} />
        <TimeField label="Liked since" name="liked_after" value={filter.liked_after} />
        <TimeField label="and before" name="liked_before" value={filter.liked_before} />
      </FilterForm>
      {job && <JobProgress id={job} onEnd={again} onClose={() => setJob(null)} />}
      {filter.user_id && mayOperate && (
        <div class="columns">
          {(["void", "restore"] as const).map((decision) => (
            <Preview key={`${decision} ${JSON.stringify(filter)}`} filter={filter} decision={decision} round={round} onJob={(job) => { setJob(job.id); again(); }} />
          ))}
        </div>
      )}
      <h2 class="section">{filter.user_id ? <>Decisions about user <code>{filter.user_id}</code></> : "Decisions"}</h2>
      <Decisions user={filter.user_id} round={round} />
    </Page>
  );
}
