// What the deployment did in the last hour, from the database: it survives a reload and a restart.

import { useMemo } from "preact/hooks";
import type { History } from "./api";
import { Chart } from "./chart";
import { duration, rate, whole } from "./format";
import { useQuery } from "./hooks";
import { Card } from "./ui";

const EVERY_MS = 10_000;
/** The fewest points that are shown. */
const LEAST = 30;

export function HistoryView() {
  const history = useQuery<History>("admin/history", EVERY_MS).value;
  const points = history?.points;
  const data = useMemo(() => {
    const recorded = points ?? [];
    // A deployment that is minutes old shows minutes.
    const first = recorded.findIndex((point) => point.processes > 0);
    const all = recorded.slice(Math.max(0, Math.min(first, recorded.length - LEAST)));
    const times = all.map((point) => Date.parse(point.at) / 1_000);
    const of = (value: (point: (typeof all)[number]) => number | null | undefined) => all.map((point) => value(point) ?? null);
    const rows = (status: string) => (point: (typeof all)[number]) => (point.ledger as Record<string, number> | null)?.[status];
    return {
      throughput: [times, of((point) => point.accepted_per_second), of((point) => point.completed_per_second), of((point) => point.failed_per_second)],
      latency: [times, of((point) => point.accepted_to_completed_ms?.p50), of((point) => point.accepted_to_completed_ms?.p95), of((point) => point.accepted_to_completed_ms?.p99)],
      ledger: [times, of(rows("pending")), of(rows("processing")), of(rows("failed")), of(rows("dead"))],
      lag: [times, of((point) => point.consumer_lag), of((point) => point.oldest_open_seconds)],
    } satisfies Record<string, (number | null)[][]>;
  }, [points]);
  if (!points) return null;
  type Data = [number[], ...(number | null)[][]];
  return (
    <div class="columns">
      <Card>
        <Chart title="Throughput a second, last hour" show={rate} series={[{ label: "accepted", color: "accent" }, { label: "completed", color: "good" }, { label: "failed", color: "error" }]} data={data.throughput as Data} />
      </Card>
      <Card>
        <Chart title="Accepted to completed, last hour" isJoined show={duration} series={[{ label: "p50", color: "good" }, { label: "p95", color: "accent" }, { label: "p99", color: "rose" }]} data={data.latency as Data} />
      </Card>
      <Card>
        <Chart title="Open and dead rows, last hour" isWhole show={whole} series={[{ label: "pending", color: "muted" }, { label: "processing", color: "accent" }, { label: "failed", color: "warning" }, { label: "dead", color: "error" }]} data={data.ledger as Data} />
      </Card>
      <Card>
        <Chart title="Lag, last hour" isWhole show={whole} series={[{ label: "unacknowledged messages", color: "accent" }, { label: "oldest open row, seconds", color: "warning" }]} data={data.lag as Data} />
      </Card>
    </div>
  );
}
