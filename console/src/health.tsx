// What the process depends on: dependencies with clock skew and failover, the stream and its differences, and the audit.

import { type Audits, type Job, type Readiness, type StreamReport } from "./api";
import { ago, bytes, duration, plural, time, whole, words } from "./format";
import { link, useQuery } from "./hooks";
import { progress, start } from "./jobs";
import { useMayOperate } from "./session";
import { Card, Empty, Facts, Notice, Page, Progress, State, Table, Waiting } from "./ui";

export function Dependencies() {
  const answer = useQuery<Readiness>("readyz", 2_000, false, [503]);
  const readiness = answer.value;
  if (!readiness) return <Page title="Dependencies"><Waiting error={answer.error} /></Page>;
  const skew = readiness.clock_skew_ms;
  return (
    <Page title="Dependencies" intro="What this process needs, and whether it answers.">
      {readiness.ready ? (
        <Notice kind="good">The process can make a like durable now.</Notice>
      ) : (
        <Notice kind="error">The process cannot make a like durable now: {readiness.reasons.join(", ")}.</Notice>
      )}
      {(readiness.warnings ?? []).map((warning) => <Notice key={warning} kind="warning">{warning}</Notice>)}
      <div class="cards">
        {Object.entries(readiness.parts).map(([name, part]) => (
          <Card key={name} title={part.kind} aside={<State state={part.state} />}>
            <p class="hint">{name}</p>
            {part.error && <Notice kind="error">{part.error}</Notice>}
            {(part.warnings ?? []).map((warning) => <Notice key={warning} kind="warning">{warning}</Notice>)}
            {!part.error && (part.warnings ?? []).length === 0 && <p>It answers, and it takes writes.</p>}
          </Card>
        ))}
        <Card title="Clock">
          <p class="figure-value">{skew === null || skew === undefined ? "–" : skew === 0 ? "in step" : duration(Math.abs(skew))}</p>
          <p class="hint">
            {skew === null || skew === undefined
              ? "The database runs in the process, or has not answered yet."
              : skew === 0
                ? "This process and the database agree."
                : `This process is ${skew > 0 ? "ahead of" : "behind"} the database. Versions follow the database's time.`}
          </p>
        </Card>
      </div>
      <Card title="Calls that fail now">
        {readiness.failing.length === 0 ? (
          <p>None.</p>
        ) : (
          <Table label="Calls that fail now" head={<><th>Dependency</th><th>Call</th><th class="number">For</th><th class="number">Calls</th><th class="number">Rows put back</th></>}>
            {readiness.failing.map((one) => (
              <tr key={one.dependency + one.doing}>
                <td>{one.dependency}</td><td>{one.doing}</td>
                <td class="number">{duration(one.seconds * 1_000)}</td><td class="number">{whole(one.calls)}</td><td class="number">{whole(one.rows)}</td>
              </tr>
            ))}
          </Table>
        )}
      </Card>
    </Page>
  );
}

const show = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));

export function Stream() {
  const answer = useQuery<StreamReport>("admin/stream", 3_000);
  const report = answer.value;
  if (!report) {
    return (
      <Page title="Stream">
        {/NATS/.test(answer.error) ? (
          <Empty icon="stream">This process has no NATS: likes go straight to the database. Set LIKEWISE_NATS_URL to send them through a stream.</Empty>
        ) : (
          <Waiting error={answer.error} />
        )}
      </Page>
    );
  }
  const { holds } = report;
  const differing = report.settings.filter((setting) => setting.difference);
  return (
    <Page title="Stream" intro={<>Stream <code>{report.stream}</code>, consumer <code>{report.consumer ?? "not known yet"}</code></>}>
      {report.state === "as_configured" ? (
        <Notice kind="good">Every setting is as configured.</Notice>
      ) : (
        <Notice kind={report.state === "misconfigured" ? "error" : "warning"}>
          {report.state === "absent" ? "The stream or the consumer is missing; the next check of a process creates it." : `${plural(differing.length, "setting differs", "settings differ")}. ${report.state === "misconfigured" ? "Nothing is published, because acknowledged likes would be lost. " : ""}`}
          {report.state !== "absent" && <><code>likewise stream apply</code> applies the configuration.</>}
        </Notice>
      )}
      {holds && (
        <div class="figures">
          <div class="figure"><span class="figure-label">Messages</span><span class="figure-value">{whole(holds.messages)}</span><span class="figure-note">{bytes(holds.bytes)}</span></div>
          <div class="figure"><span class="figure-label">Not acknowledged</span><span class={`figure-value ${holds.unacknowledged > 0 ? "warning" : ""}`}>{whole(holds.unacknowledged)}</span><span class="figure-note">{holds.oldest_unacknowledged_at ? `oldest ${ago(holds.oldest_unacknowledged_at)}` : "the workers keep up"}</span></div>
          <div class="figure"><span class="figure-label">Oldest message</span><span class="figure-value">{holds.oldest_at ? ago(holds.oldest_at) : "–"}</span><span class="figure-note" /></div>
        </div>
      )}
      <Table label="Settings of the stream and its consumer" head={<><th>Of</th><th>Setting</th><th>Difference</th><th>Configured</th><th>Current</th></>}>
        {[...differing, ...report.settings.filter((setting) => !setting.difference)].map((setting) => (
          <tr key={setting.owner + setting.name} class={setting.difference ?? ""}>
            <td>{setting.owner}</td><td>{setting.name}</td>
            <td>{setting.difference ? <State state={setting.difference} /> : "–"}</td>
            <td><code>{show(setting.configured)}</code></td><td><code>{show(setting.current)}</code></td>
          </tr>
        ))}
      </Table>
    </Page>
  );
}

interface AuditReport {
  repair: boolean;
  started_at: string;
  finished_at: string;
  checked: Record<string, number>;
  cache_entries: number | null;
  findings: Record<string, { found: number; mended: number }>;
  examples: { finding: string; subject: string; expected: string; found: string }[];
  overdue_rows: number;
}

export function Audit() {
  const answer = useQuery<Audits>("admin/audit", 2_000);
  const mayOperate = useMayOperate();
  const begin = async (repair: boolean) => {
    const job = await start({ kind: "audit", repair }, {
      title: repair ? "Audit and repair?" : "Audit the data?",
      body: repair ? "A job compares everything and repairs what differs: ledger rows, read models, counts and cache are made to agree with the behaviors." : "A job compares behaviors, ledger, read models, counts and cache. It changes nothing.",
      action: repair ? "Audit and repair" : "Audit",
      isDestructive: repair,
    });
    if (job) answer.reload();
  };
  if (!answer.value) return <Page title="Audit"><Waiting error={answer.error} /></Page>;
  const { last, current } = answer.value as { last?: Job; current?: Job };
  const report = last?.result as unknown as AuditReport | undefined;
  const findings = Object.entries(report?.findings ?? {});
  return (
    <Page
      title="Audit"
      intro="Compares behaviors, ledger, read models, counts and cache, in this order, because each depends on the one before."
      actions={mayOperate && !current && (
        <>
          <button type="button" onClick={() => begin(true)}>Audit and repair…</button>
          <button type="button" class="primary" onClick={() => begin(false)}>Audit now…</button>
        </>
      )}
    >
      {current && (
        <Card title="Running" aside={<State state={current.state} />}>
          <Progress done={current.done} total={current.total} label="Progress of the audit" />
          <p><a href={link(`jobs/${current.id}`)}>{progress(current)}</a>, asked by {current.requested_by}</p>
        </Card>
      )}
      {!report || !last ? (
        <Empty>No audit has ended yet.</Empty>
      ) : (
        <>
          {findings.length === 0 ? (
            <Notice kind="good">The last audit found no differences, {ago(report.finished_at)}.</Notice>
          ) : (
            <Notice kind="error">The last audit found {plural(findings.reduce((sum, [, tally]) => sum + tally.found, 0), "difference")}, {ago(report.finished_at)}.</Notice>
          )}
          {report.overdue_rows > 0 && <Notice kind="warning">{plural(report.overdue_rows, "open ledger row")} have been due for at least five minutes.</Notice>}
          <div class="columns">
            <Card title="Findings">
              {findings.length === 0 ? <p>None.</p> : (
                <Table label="Findings" head={<><th>Finding</th><th class="number">Found</th><th class="number">Repaired</th></>}>
                  {findings.map(([name, tally]) => <tr key={name}><td>{words(name)}</td><td class="number">{whole(tally.found)}</td><td class="number">{whole(tally.mended)}</td></tr>)}
                </Table>
              )}
            </Card>
            <Card title="Compared">
              <Facts
                of={[
                  ...Object.entries(report.checked).map(([name, number]) => [words(name), whole(number)] as [string, string]),
                  ["cache entries", report.cache_entries === null ? "the cache was unreachable" : whole(report.cache_entries)],
                  ["took", duration(Date.parse(report.finished_at) - Date.parse(report.started_at))],
                  ["ended", time(report.finished_at)],
                  ["asked by", last.requested_by],
                ]}
              />
            </Card>
          </div>
          {report.examples.length > 0 && (
            <Card title="Examples">
              <Table label="Examples of differences" head={<><th>Finding</th><th>Of</th><th>Expected</th><th>Found</th></>}>
                {report.examples.map((one, index) => <tr key={index}><td>{words(one.finding)}</td><td><code>{one.subject}</code></td><td><code>{one.expected}</code></td><td><code>{one.found}</code></td></tr>)}
              </Table>
            </Card>
          )}
        </>
      )}
    </Page>
  );
}
