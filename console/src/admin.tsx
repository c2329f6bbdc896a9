// The console at /admin: sign-in, navigation, and the view that the fragment of the address names.

import { render } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ActorPanel } from "./actor";
import { Refused, about, message, operatorName, request, token, whenUnauthorized } from "./api";
import { EventView, Find } from "./event";
import { Events } from "./events";
import { restartFeed, useFeed } from "./feed";
import { time } from "./format";
import { Audit, Dependencies, Stream } from "./health";
import { type Route, link, useRoute } from "./hooks";
import { Icon, type IconName } from "./icons";
import { JobView, Jobs } from "./jobs";
import { QuarantinedView } from "./message";
import { Moderation } from "./moderation";
import { Operations } from "./operations";
import { Overview } from "./overview";
import { Quarantine } from "./quarantine";
import { type Session, SessionContext } from "./session";
import { Confirmation, Messages, Notice, Page } from "./ui";
import { DeadLetterView, Webhooks } from "./webhooks";

const VIEWS: [path: string, title: string, icon: IconName][] = [
  ["overview", "Overview", "flow"],
  ["events", "Events", "list"],
  ["find", "Find a like", "search"],
  ["quarantine", "Quarantine", "shield"],
  ["webhooks", "Webhooks", "send"],
  ["likes", "Void likes", "heart"],
  ["jobs", "Jobs", "jobs"],
  ["operations", "Operations", "user"],
  ["audit", "Audit", "check"],
  ["stream", "Stream", "stream"],
  ["dependencies", "Dependencies", "plug"],
];

function View({ path, parameters }: Route) {
  const [view = "overview", id] = path;
  switch (view) {
    case "overview":
      return <Overview process={parameters.get("process") ?? undefined} />;
    case "actors":
      return <><Overview />{id && <ActorPanel name={id} process={parameters.get("process") ?? undefined} key={id} />}</>;
    case "events":
      return id ? <EventView id={id} key={id} /> : <Events parameters={parameters} />;
    case "find":
      return <Find parameters={parameters} />;
    case "quarantine":
      return id ? <QuarantinedView id={id} key={id} /> : <Quarantine parameters={parameters} />;
    case "webhooks":
      return id ? <DeadLetterView id={id} key={id} /> : <Webhooks parameters={parameters} />;
    case "likes":
      return <Moderation parameters={parameters} />;
    case "jobs":
      return id ? <JobView id={id} key={id} /> : <Jobs parameters={parameters} />;
    case "operations":
      return <Operations parameters={parameters} />;
    case "audit":
      return <Audit />;
    case "stream":
      return <Stream />;
    case "dependencies":
      return <Dependencies />;
    default:
      return <Page title="Not found"><Notice kind="error">The console has no view of this name.</Notice></Page>;
  }
}

function Live() {
  const feed = useFeed();
  const state = feed.lost ? "lost" : feed.processes.length > 0 ? "live" : "connecting";
  return <span class="live" data-state={state} role="status" title={feed.lost?.why}>{state === "lost" ? "no answer" : state}</span>;
}

/** Says that what the views show is old. */
function Lost() {
  const { lost, processes } = useFeed();
  if (!lost) return null;
  const last = processes.length > 0 ? " What is shown is its last report." : "";
  return <Notice kind="error">No report has come since {time(new Date(lost.since).toISOString())}: {lost.why}.{last}</Notice>;
}

function SignIn({ reason, onToken }: { reason: string; onToken: () => void }) {
  const submit = (event: Event) => {
    event.preventDefault();
    token.set(String(new FormData(event.target as HTMLFormElement).get("token")).trim());
    onToken();
  };
  useEffect(() => {
    document.title = "Sign in · Likewise";
  }, []);
  return (
    <main class="sign-in">
      <form onSubmit={submit}>
        <span class="logo"><Icon name="heart" filled /></span>
        <h1>Sign in to the console</h1>
        <p>Paste a token with the scope <code>admin:read</code>; <code>admin:operate</code> also allows changes. It stays in this tab until you close it.</p>
        <label class="field">Token<input name="token" type="password" required maxLength={8_192} autoFocus autocomplete="off" spellcheck={false} /></label>
        {reason && <Notice kind={token.get() ? "error" : "info"}>{reason}</Notice>}
        <div class="actions end"><button type="submit" class="primary">Sign in</button></div>
        <p class="hint"><code>likewise token new --name ada --scope admin:read --scope admin:operate</code> makes one.</p>
      </form>
    </main>
  );
}

function Console({ session, onSignOut }: { session: Session; onSignOut: () => void }) {
  const route = useRoute();
  const { path } = route;
  const current = path[0] === "actors" ? "overview" : (path[0] ?? "overview");
  const mayOperate = session.scopes.includes("admin:operate");
  const isFirst = useRef(true);
  useEffect(() => {
    document.querySelector<HTMLElement>("main")?.scrollTo(0, 0);
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [current]);
  useEffect(() => {
    // A screen reader reads the heading of the new view, and Tab goes on from there. A panel takes the focus itself.
    if (!isFirst.current && path[0] !== "actors") document.querySelector<HTMLElement>("main h1")?.focus({ preventScroll: true });
    isFirst.current = false;
  }, [path.join("/")]);
  return (
    <SessionContext.Provider value={session}>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")!.focus(); }}>Skip to the content</a>
      <div class="shell">
        <header class="side">
          <a class="brand" href={link("overview")}><Icon name="heart" filled />Likewise</a>
          <nav aria-label="Console">
            {VIEWS.map(([view, title, icon]) => (
              <a key={view} href={link(view)} aria-current={view === current ? "page" : undefined}><Icon name={icon} />{title}</a>
            ))}
          </nav>
          <div class="who">
            <Live />
            <span class="who-name"><Icon name="user" />{operatorName.get() || session.operator}{!mayOperate && <em> read-only</em>}</span>
            {!session.unauthenticated && <button type="button" class="link" onClick={onSignOut}>Sign out</button>}
            <span class="hint">{about.version}, {about.role === "all" ? "api and worker" : about.role}</span>
          </div>
        </header>
        <main id="main" tabIndex={-1} data-shown={route.hash}><Lost /><View {...route} /></main>
      </div>
      <Confirmation />
      <Messages />
    </SessionContext.Provider>
  );
}

function App() {
  const [session, setSession] = useState<Session | null>(null);
  const [refusal, setRefusal] = useState<{ signIn: boolean; text: string } | null>(null);
  const load = useCallback(async () => {
    try {
      setSession(await request<Session>("admin/session"));
      setRefusal(null);
      restartFeed();
    } catch (error) {
      const isRefused = error instanceof Refused && (error.status === 401 || error.status === 403);
      setRefusal({ signIn: isRefused, text: message(error) });
      setSession(null);
    }
  }, []);
  useEffect(() => {
    whenUnauthorized((detail) => {
      setSession(null);
      setRefusal({ signIn: true, text: detail });
    });
    void load();
  }, []);
  const signOut = () => {
    token.clear();
    setSession(null);
    setRefusal({ signIn: true, text: "" });
  };
  if (session) return <Console session={session} onSignOut={signOut} />;
  if (!refusal) return null;
  if (refusal.signIn) return <SignIn reason={refusal.text} onToken={load} />;
  return <main class="sign-in"><Notice kind="error">{refusal.text}. <button type="button" class="link" onClick={load}>Try again</button></Notice></main>;
}

render(<App />, document.getElementById("app")!);
