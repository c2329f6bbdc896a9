// The last like as it travels: each station says what the service reported of it, and nothing else.

import { useEffect, useState } from "preact/hooks";
import { type Readiness, type Timeline, message, request } from "./api";
import { duration, micros, time, whole } from "./format";
import { Icon } from "./icons";

/** A like that this page sent or saw. */
export interface Travelling {
  event_id: string;
  user: string;
  liked: boolean;
  title: string;
  /** What the answer to this tab said; absent if another tab sent the like. */
  answer?: { ms: number; like_count: number | null; durability: string; cached: boolean };
}

interface Station {
  key: string;
  title: string;
  place: string;
  /** What happened there; empty until it has. */
  said: string;
  at?: string;
  isReached: boolean;
}

const DEADLINE_MS = 20_000;

/** Asks for the timeline until the event has come to its end. */
function useTimeline(event_id: string): { timeline?: Timeline; error: string } {
  const [state, setState] = useState<{ timeline?: Timeline; error: string }>({ error: "" });
  useEffect(() => {
    const controller = new AbortController();
    const started = Date.now();
    setState({ error: "" });
    const ask = async () => {
      try {
        const timeline = await request<Timeline>(`admin/ledger/events/${event_id}`, { signal: controller.signal });
        setState({ timeline, error: "" });
        if (timeline.timeline.some((moment) => moment.step === "completed" || moment.step === "dead")) return;
      } catch (error) {
        if (controller.signal.aborted) return;
        setState((before) => ({ ...before, error: message(error) }));
      }
      if (Date.now() - started < DEADLINE_MS) setTimeout(ask, 250);
    };
    void ask();
    return () => controller.abort();
  }, [event_id]);
  return state;
}

function stationsOf(like: Travelling, timeline: Timeline | undefined, readiness: Readiness | undefined): Station[] {
  const parts = readiness?.parts ?? {};
  const database = parts.database?.kind ?? "database";
  const step = (name: string) => timeline?.timeline.find((moment) => moment.step === name);
  const [accepted, published, recorded, completed] = ["accepted", "published", "recorded", "completed"].map(step);
  const { answer } = like;
  const stations: Station[] = [
    {
      key: "api",
      title: "Accepted",
      place: "HTTP API",
      said: accepted || answer ? `user ${like.user}, ${like.liked ? "like" : "unlike"}` : "",
      at: accepted?.at ?? undefined,
      isReached: Boolean(accepted || answer),
    },
    {
      key: "cache",
      title: "Counted",
      place: `${parts.cache?.kind ?? "no"} cache`,
      said: answer ? (answer.cached ? (answer.like_count === null ? "applied" : `the count is ${whole(answer.like_count)}`) : "the cache did not answer") : timeline ? "counted" : "",
      isReached: Boolean(answer?.cached || timeline),
    },
  ];
  if ("broker" in parts) {
    stations.push({
      key: "broker",
      title: "Durable",
      place: `${parts.broker!.kind}, a stream`,
      said: published?.stream_sequence ? `message ${whole(published.stream_sequence)}` : answer?.durability === "database" ? "skipped: it is down" : answer ? "acknowledged" : "",
      isReached: Boolean(published || answer?.durability === "broker"),
    });
  }
  stations.push(
    {
      key: "recorded",
      title: "Recorded",
      place: `${database}, user_behaviors`,
      said: recorded ? (published ? "a worker wrote it" : "durable") : "",
      at: recorded?.at ?? undefined,
      isReached: Boolean(recorded),
    },
    {
      key: "completed",
      title: "Completed",
      place: `${database}, read models and counts`,
      said: completed ? (timeline?.read_model?.shows === "newer" ? "a newer one supersedes it" : completed.at === recorded?.at ? "in the same transaction" : `attempt ${completed.attempt ?? 1}`) : "",
      at: completed?.at ?? undefined,
      isReached: Boolean(completed),
    },
  );
  return stations;
}

export function Journey({ like, readiness }: { like: Travelling; readiness: Readiness | undefined }) {
  const { timeline, error } = useTimeline(like.event_id);
  const stations = stationsOf(like, timeline, readiness);
  const first = stations[0]!.at;
  const lastReached = stations.reduce((last, station, index) => (station.isReached ? index : last), -1);
  const isDone = stations.at(-1)!.isReached;
  return (
    <div class="journey" key={like.event_id} data-event={like.event_id} data-done={isDone}>
      <p class="journey-head">
        <span>
          <b>{like.answer ? "You" : `User ${like.user}`}</b> {like.liked ? "liked" : "no longer like" + (like.answer ? "" : "s")} <b>{like.title}</b>
        </span>
        {like.answer && <span>the answer took <b>{duration(like.answer.ms)}</b>, durable in {readiness?.parts[like.answer.durability]?.kind ?? `the ${like.answer.durability}`}</span>}
      </p>
      <ol class="track" data-stations={stations.length}>
        {stations.map((station, index) => (
          <li key={station.key} class={station.isReached ? "reached" : ""} data-delay={index} data-station={station.key} aria-current={index === lastReached ? "step" : undefined}>
            <span class="dot">{station.isReached && <Icon name={station.key === "api" ? "heart" : "check"} filled={station.key === "api"} />}</span>
            <b>{station.title}</b>
            <span class="place">{station.place}</span>
            <span class="said">{station.said || " "}</span>
            <span class="when">{station.at ? (station.at === first ? time(station.at, true) : first ? `+${duration((micros(station.at) - micros(first)) / 1_000)}` : time(station.at, true)) : " "}</span>
          </li>
        ))}
      </ol>
      <p class="journey-foot">
        <a href={`admin#/events/${like.event_id}`}>Event <code>{like.event_id}</code></a>
        {error && !timeline && <span class="hint">The timeline is not shown: {error}.</span>}
      </p>
    </div>
  );
}
