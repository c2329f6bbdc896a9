// The pieces that views are made of.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { operatorName } from "./api";
import { words } from "./format";
import { Icon, type IconName } from "./icons";
import { useSession } from "./session";

/** A state as a word with a dot: `running`, `failed`, `completed`, `up`. */
export function State({ state, quiet = false }: { state: string; quiet?: boolean }) {
  return (
    <span class={`state ${quiet ? "quiet" : ""}`} data-state={state}>
      {words(state)}
    </span>
  );
}

export function Page({ title, intro, actions, children }: {
  title: string;
  intro?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
}) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Likewise`;
  }, [title]);
  return (
    <>
      <header class="page-head">
        <div>
          <h1 ref={heading} tabIndex={-1}>{title}</h1>
          {intro && <p class="intro">{intro}</p>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </>
  );
}

export function Card({ title, aside, children, class: name = "" }: {
  title?: ComponentChildren;
  aside?: ComponentChildren;
  children: ComponentChildren;
  class?: string;
}) {
  return (
    <section class={`card ${name}`}>
      {title && <div class="card-head"><h2>{title}</h2>{aside && <div class="aside">{aside}</div>}</div>}
      {children}
    </section>
  );
}

/** Terms with their values, such as the fields of a row. */
export function Facts({ of: facts }: { of: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {facts.map(([term, value]) => (
        <div key={term}><dt>{term}</dt><dd>{value ?? "–"}</dd></div>
      ))}
    </dl>
  );
}

export function Notice({ kind = "info", children }: { kind?: "info" | "warning" | "error" | "good"; children: ComponentChildren }) {
  return (
    <div class={`notice ${kind}`} role={kind === "error" ? "alert" : undefined}>
      <Icon name={kind === "good" ? "check" : "warning"} />
      <div>{children}</div>
    </div>
  );
}

/** How full something is. The number stands beside it. */
export function Level({ value, most, state }: { value: number; most: number; state?: string }) {
  const share = most > 0 ? Math.min(1, value / most) : 0;
  // Something is never shown as nothing.
  const width = value > 0 ? `max(4px, ${share * 100}%)` : "0";
  return <span class="level" data-state={state} aria-hidden="true"><i style={{ width }} /></span>;
}

/** What a view shows until its first answer, or instead of it. */
export function Waiting({ error }: { error: string }) {
  return error ? <Notice kind="error">{error}</Notice> : <p class="waiting">Loading…</p>;
}

export function Empty({ icon = "check", children }: { icon?: IconName; children: ComponentChildren }) {
  return <div class="empty"><Icon name={icon} /><p>{children}</p></div>;
}

/** A table that scrolls on its own where the page is narrow. */
export function Table({ label, head, children }: { label: string; head: ComponentChildren; children: ComponentChildren }) {
  return (
    <div class="table" role="region" aria-label={label} tabIndex={0}>
      <table><thead><tr>{head}</tr></thead><tbody>{children}</tbody></table>
    </div>
  );
}

export function Progress({ done, total, label }: { done: number; total: number | null | undefined; label: string }) {
  const known = total !== null && total !== undefined && total > 0;
  return <progress aria-label={label} value={known ? Math.min(done, total) : undefined} max={known ? total : 1} />;
}

/** A panel at the side, which Escape closes. */
export function Panel({ title, onClose, children }: { title: ComponentChildren; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (!dialog.current!.open) dialog.current!.showModal();
  }, []);
  return (
    <dialog
      class="panel"
      ref={dialog}
      aria-labelledby="panel-title"
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div class="panel-body">
        <div class="panel-head">
          <h2 id="panel-title">{title}</h2>
          <button type="button" class="plain" aria-label="Close" onClick={() => dialog.current?.close()}>
            <Icon name="close" />
          </button>
        </div>
        {children}
      </div>
    </dialog>
  );
}

/** What an operator is asked before something changes. */
export interface Question {
  title: string;
  body: ComponentChildren;
  /** The word on the button. */
  action: string;
  isDestructive?: boolean;
  /** The label of a reason that is required. */
  reason?: string;
}

interface Asked extends Question {
  answer: (given: { reason: string } | null) => void;
}

let open: (asked: Asked) => void = () => {};

/** Asks the operator; `null` if it is declined. */
export function ask(question: Question): Promise<{ reason: string } | null> {
  return new Promise((answer) => open({ ...question, answer }));
}

export function Confirmation() {
  const [asked, setAsked] = useState<Asked | null>(null);
  const dialog = useRef<HTMLDialogElement>(null);
  const session = useSession();
  open = setAsked;
  useEffect(() => {
    if (asked) dialog.current!.showModal();
  }, [asked]);
  if (!asked) return null;
  const close = (given: { reason: string } | null) => {
    // Gives the focus back to the button that asked.
    dialog.current?.close();
    asked.answer(given);
    setAsked(null);
  };
  const submit = (event: Event) => {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    operatorName.set(String(form.get("operator")).trim());
    close({ reason: String(form.get("reason") ?? "").trim() });
  };
  return (
    <dialog class="confirm" ref={dialog} aria-labelledby="confirm-title" onCancel={() => close(null)}>
      <form onSubmit={submit}>
        <h2 id="confirm-title">{asked.title}</h2>
        <div class="confirm-body">{asked.body}</div>
        {asked.reason && (
          <label class="field">
            {asked.reason}
            <input name="reason" required maxLength={500} autoFocus />
          </label>
        )}
        <label class="field">
          Your name, for the record
          <input name="operator" defaultValue={operatorName.get()} placeholder={session.operator} maxLength={64} pattern="[ -~]*" />
        </label>
        <div class="actions end">
          <button type="button" onClick={() => close(null)}>Cancel</button>
          <button type="submit" class={asked.isDestructive ? "danger" : "primary"}>{asked.action}</button>
        </div>
      </form>
    </dialog>
  );
}

let show: (text: string, isError: boolean) => void = () => {};

/** Tells the outcome of an action for a few seconds. */
export const tell = (text: string) => show(text, false);
export const tellError = (text: string) => show(text, true);

export function Messages() {
  const [messages, setMessages] = useState<{ id: number; text: string; isError: boolean }[]>([]);
  const next = useRef(0);
  show = (text, isError) => {
    const id = next.current++;
    setMessages((all) => [...all.slice(-3), { id, text, isError }]);
    setTimeout(() => setMessages((all) => all.filter((one) => one.id !== id)), isError ? 12_000 : 6_000);
  };
  return (
    <div class="messages" role="status" aria-live="polite">
      {messages.map(({ id, text, isError }) => (
        <p key={id} class={isError ? "error" : ""}><Icon name={isError ? "warning" : "check"} />{text}</p>
      ))}
    </div>
  );
}
