// The front page: three videos to like, with live counts, and the last like as it travels.

import { render } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type LedgerPage, type Readiness, about, message, query, request } from "./api";
import { type Status, pause, statuses, watch } from "./counts";
import { whole } from "./format";
import { useQuery } from "./hooks";
import { Icon, type IconName } from "./icons";
import { Journey, type Travelling } from "./journey";
import { Scene } from "./scenes";

const TITLES = ["A fjord at dusk", "Rain on the city", "Paper planes"];

/** The type that is liked: videos, if the deployment has them. */
const TYPE = about.resource_types.includes("video") ? "video" : about.resource_types[0]!;

const IDS = [1, 2, 3].map((number) => {
  if (about.resource_ids === "uuid") return `00000000-0000-4000-8000-00000000000${number}`;
  return about.resource_ids === "text" ? `demo-${number}` : String(number);
});

interface AcceptedLike {
  event_id: string;
  liked: boolean;
  like_count: number | null;
  durability: string;
  cached: boolean;
  user_id: number | string;
}

/** How long a like is shown before that of another tab may take its place, so that it can be read. */
const OWN_MS = 6_000;
const OTHERS_MS = 2_500;

/** How long an event that changed a count may take until it is recorded. */
const RECORDED_WITHIN_MS = 20_000;
const LOOK_EVERY_MS = 250;

/** The user of this tab, drawn once. */
function tabUser(): string {
  const KEY = "likewise.user";
  let user = sessionStorage.getItem(KEY);
  if (!user) {
    const random = crypto.getRandomValues(new Uint32Array(1))[0]! % 900_000 + 100_000;
    user = about.user_ids === "uuid" ? uuid() : about.user_ids === "text" ? `demo-${random}` : String(random);
    sessionStorage.setItem(KEY, user);
  }
  return user;
}

/** A random UUID; `crypto.randomUUID` exists on secure origins only. */
function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

const prefersCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The newest recorded event of a video. */
async function newestEvent(id: string) {
  const page = await request<LedgerPage>(`admin/ledger/events${query({ resource_type: TYPE, resource_id: id, limit: 1 })}`);
  return page.events[0];
}

/** A dependency with what it is used for, unless its name says it. */
const named = (name: string, kind: string) => (kind === "in-process" ? `in-process ${name}` : kind);

function Video({ index, status, isBusy, onToggle }: { index: number; status: Status | undefined; isBusy: boolean; onToggle: () => void }) {
  const count = status?.like_count;
  const [isBumped, setBumped] = useState(false);
  const before = useRef(count);
  useEffect(() => {
    if (before.current !== undefined && before.current !== null && count !== before.current) {
      setBumped(true);
      const timer = setTimeout(() => setBumped(false), 500);
      before.current = count;
      return () => clearTimeout(timer);
    }
    before.current = count;
    return undefined;
  }, [count]);
  return (
    <li class="video" data-video={IDS[index]}>
      <Scene index={index} />
      <div class="video-foot">
        <div>
          <h3>{TITLES[index]}</h3>
          <span class="hint">{TYPE} {IDS[index]}</span>
        </div>
        <button type="button" class={`like ${isBumped ? "bumped" : ""}`} aria-pressed={status?.liked ?? false} disabled={isBusy || !status} onClick={onToggle}>
          <Icon name="heart" filled={status?.liked ?? false} />
          <span class="unseen">Like {TITLES[index]}</span>
          <span class="count" aria-live="polite">{count === undefined || count === null ? "–" : whole(count)}</span>
        </button>
      </div>
    </li>
  );
}

function Demo({ user }: { user: string }) {
  const [likes, setLikes] = useState(new Map<string, Status>());
  const [last, setLast] = useState<Travelling | null>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState<string | null>(null);
  const { value: readiness, error: unready } = useQuery<Readiness>("readyz", 5_000, false, [503]);
  const known = useRef(new Map<string, number | null>());
  const shownUntil = useRef(0);
  /** Counts the likes of this tab: an answer that was asked for before one of them is outdated. */
  const toggles = useRef(0);

  /** The newest event of each video that this tab knows of. */
  const newest = useRef(new Map<string, string | undefined>());

  /** Shows the event by which another tab or program changed the count of a video. The count changes before it is recorded. */
  const showLast = useCallback(async (id: string) => {
    const before = newest.current.get(id);
    const until = Date.now() + RECORDED_WITHIN_MS;
    const newerEvent = async () => {
      const row = await newestEvent(id);
      return row?.event_id === before ? undefined : row;
    };
    try {
      let row = await newerEvent();
      while (!row && Date.now() < until) {
        await pause(LOOK_EVERY_MS);
        row = await newerEvent();
      }
      if (!row) return;
      newest.current.set(id, row.event_id);
      if (String(row.user_id) === user || Date.now() < shownUntil.current) return;
      shownUntil.current = Date.now() + OTHERS_MS;
      setLast({ event_id: row.event_id, user: String(row.user_id), liked: row.action === "like", title: TITLES[IDS.indexOf(id)]! });
    } catch {
      // Only operators may read the ledger; the counts do not need it.
    }
  }, [user]);

  /** Notes what happened to a video before this tab was opened. */
  const noteNewest = useCallback(async (id: string) => {
    try {
      const row = await newestEvent(id);
      if (!newest.current.has(id)) newest.current.set(id, row?.event_id);
    } catch {
      // As above.
    }
  }, []);

  const refresh = useCallback(async () => {
    const before = toggles.current;
    try {
      const current = await statuses(TYPE, IDS, user);
      if (toggles.current !== before) return true;
      setLikes(current);
      setError("");
      for (const [id, { like_count }] of current) {
        const last = known.current.get(id);
        if (last === undefined) void noteNewest(id);
        else if (last !== null && last !== like_count) void showLast(id);
        known.current.set(id, like_count);
      }
      return true;
    } catch (error) {
      setError(message(error));
      return false;
    }
  }, [user, showLast, noteNewest]);

  useEffect(() => {
    const controller = new AbortController();
    void watch(TYPE, IDS, controller.signal, refresh);
    return () => controller.abort();
  }, [refresh]);

  // Who likes a video looks for what happens, which may be below the window, and grows while the like travels.
  const track = useRef<HTMLElement>(null);
  useEffect(() => {
    if (!last?.answer) return undefined;
    const show = () => track.current?.scrollIntoView({ block: "nearest", behavior: prefersCalm() ? "auto" : "smooth" });
    const observer = new ResizeObserver(show);
    observer.observe(track.current!);
    const timer = setTimeout(() => observer.disconnect(), OWN_MS);
    return () => {
      clearTimeout(timer);
      observer.disconnect();
    };
  }, [last]);

  const toggle = async (index: number) => {
    const id = IDS[index]!;
    const isLiked = likes.get(id)?.liked ?? false;
    setBusy(id);
    toggles.current += 1;
    const started = performance.now();
    try {
      const path = `v1/${TYPE}s/${encodeURIComponent(id)}/like`;
      const like = await request<AcceptedLike>(path, { method: isLiked ? "DELETE" : "PUT", user });
      const ms = performance.now() - started;
      toggles.current += 1;
      shownUntil.current = Date.now() + OWN_MS;
      known.current.set(id, like.like_count);
      newest.current.set(id, like.event_id);
      setLikes((before) => new Map(before).set(id, { liked: like.liked, like_count: like.like_count ?? before.get(id)?.like_count ?? null }));
      setLast({ event_id: like.event_id, user: String(like.user_id), liked: like.liked, title: TITLES[index]!, answer: { ms, like_count: like.like_count, durability: like.durability, cached: like.cached } });
      setError("");
    } catch (error) {
      setError(message(error));
    }
    setBusy(null);
  };

  const parts = Object.entries(readiness?.parts ?? {});
  const command = `curl -X PUT -H 'X-User-Id: ${about.user_ids === "number" ? "42" : user}' ${location.origin}/v1/${TYPE}s/${IDS[0]}/like`;
  return (
    <>
      <section class="hero">
        <h1>Like something.<br />Watch it travel.</h1>
        <p>
          You are <b>user {user}</b> in this tab. <a href="./" target="_blank" rel="noopener">Open a second tab</a> and put it beside this one: there you are somebody else, and the counts move in both.
        </p>
      </section>
      {(error || unready) && <div class="notice error" role="alert"><Icon name="warning" /><div>{error || unready}</div></div>}
      <ul class="videos">
        {IDS.map((id, index) => <Video key={id} index={index} status={likes.get(id)} isBusy={busy === id} onToggle={() => toggle(index)} />)}
      </ul>
      <section class="card" aria-label="The last like" ref={track}>
        <div class="card-head"><h2>The last like</h2><span class="aside">{parts.map(([name, part]) => <span key={name} class="state" data-state={unready ? "absent" : part.state}>{named(name, part.kind)}</span>)}</span></div>
        {last ? (
          <Journey like={last} readiness={readiness} key={last.event_id} />
        ) : (
          <p class="invitation"><Icon name="heart" />Like a video, and see how its event travels from the cache to the tables.</p>
        )}
      </section>
      <section class="card">
        <div class="card-head"><h2>The same from a terminal</h2></div>
        <pre class="command"><code>{command}</code></pre>
        {readiness && !("broker" in readiness.parts) && (
          <p class="hint">Everything runs in this process: {parts.map(([name, part]) => named(name, part.kind)).join(", ")}. With LIKEWISE_NATS_URL the likes also pass through a stream to workers, and with LIKEWISE_REDIS_URL the cache is shared.</p>
        )}
      </section>
    </>
  );
}

/** What the page shows where it sends no likes. */
function Links() {
  const links: [string, string, string, IconName][] = [
    ["admin", "Console", "the flow, events, jobs and audits, for operators", "flow"],
    ["docs", "API", "every request, to read and to try", "book"],
    ["readyz", "Readiness", "whether likes can be accepted now", "check"],
    ["metrics", "Metrics", "for Prometheus", "stream"],
  ];
  return (
    <ul class="links">
      {links.map(([href, title, text, icon]) => (
        <li key={href}><a class="card" href={href}><Icon name={icon} /><b>{title}</b><span>{text}</span></a></li>
      ))}
    </ul>
  );
}

function Home() {
  const reason = about.role === "worker"
    ? "This process is a worker: it has no like API. The front page of an api process shows the videos."
    : about.sign_in
      ? "Users sign in here (LIKEWISE_AUTH_MODE=jwt), so this page sends no likes of its own. docs/sign-in.md explains how a product sends them."
      : "The videos to like are shown where the service listens on loopback only, or with LIKEWISE_DEMO=true.";
  return (
    <div class="home">
      <header class="home-head">
        <a class="brand" href="./"><Icon name="heart" filled />Likewise</a>
        <nav aria-label="Pages"><a href="admin">Console</a><a href="docs">API</a></nav>
      </header>
      <main>
        {about.demo ? (
          <Demo user={tabUser()} />
        ) : (
          <>
            <section class="hero"><h1>Likewise</h1><p>An event-driven like service. The cache answers at once, and the database follows exactly.</p></section>
            <Links />
            <p class="hint">{reason}</p>
          </>
        )}
      </main>
      <footer class="home-foot"><span>Likewise {about.version}</span><a href="readyz">readyz</a><a href="metrics">metrics</a><a href="openapi.json">openapi.json</a></footer>
    </div>
  );
}

render(<Home />, document.getElementById("app")!);
