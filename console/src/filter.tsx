// The parts of a filter form: fields of the address, and times in UTC.

import type { ComponentChildren } from "preact";
import { about } from "./api";
import { link } from "./hooks";

/** The named parameters of the address that are given. */
export function given<F extends string>(parameters: URLSearchParams, fields: readonly F[]): Partial<Record<F, string>> {
  const filter: Partial<Record<F, string>> = {};
  for (const field of fields) {
    const value = parameters.get(field);
    if (value) filter[field] = value;
  }
  return filter;
}

/** The value of an input of a local date and time, of a moment in UTC; and back. */
const local = (iso: string | undefined) => {
  if (!iso) return "";
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? "" : new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
};
const utc = (text: string) => (text ? new Date(text).toISOString() : "");

/** A form whose fields become parameters of the address of a view. `kept` are parameters that it has no field for. */
export function FilterForm({ label, view, filter, kept = {}, chips, action = "Filter", children }: {
  label: string;
  view: string;
  filter: Record<string, string | undefined>;
  kept?: Record<string, string | undefined>;
  chips?: ComponentChildren;
  /** The word on the button. */
  action?: string;
  children: ComponentChildren;
}) {
  const submit = (event: Event) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const fields = Object.fromEntries([...new FormData(form)].map(([name, value]) => {
      const isTime = (form.elements.namedItem(name) as HTMLInputElement).type === "datetime-local";
      return [name, isTime ? utc(String(value)) : String(value).trim()];
    }));
    location.hash = link(view, { ...kept, ...fields });
  };
  return (
    <form class="filter" role="search" aria-label={label} onSubmit={submit} key={JSON.stringify(filter)}>
      {chips}
      <div class="fields">
        {children}
        <div class="actions">
          <button type="submit" class="primary">{action}</button>
          {Object.keys(filter).length > 0 && <a class="button" href={link(view)}>Clear</a>}
        </div>
      </div>
    </form>
  );
}

/** The choices of a parameter as links. */
export function Chips({ label, choices, current, to }: {
  label: string;
  choices: readonly (readonly [value: string, name: string])[];
  current: string;
  to: (value: string) => string;
}) {
  return (
    <div class="chips" role="group" aria-label={label}>
      {choices.map(([value, name]) => (
        <a key={value} class="chip" aria-current={value === current ? "true" : undefined} href={to(value)}>{name}</a>
      ))}
    </div>
  );
}

export function TextField({ label, name, value, wide = false, required = false }: { label: string; name: string; value: string | undefined; wide?: boolean; required?: boolean }) {
  const isNumber = (name === "user_id" && about.user_ids === "number") || (name === "resource_id" && about.resource_ids === "number");
  return (
    <label class={wide ? "field wide" : "field"}>
      {label}
      <input name={name} defaultValue={value} maxLength={200} required={required} inputMode={isNumber ? "numeric" : "text"} />
    </label>
  );
}

export function TimeField({ label, name, value }: { label: string; name: string; value: string | undefined }) {
  return <label class="field">{label}<input type="datetime-local" step="1" name={name} defaultValue={local(value)} /></label>;
}

export function TypeField({ value }: { value: string | undefined }) {
  return (
    <label class="field">
      Type
      <select name="resource_type" defaultValue={value ?? ""}>
        <option value="">any</option>
        {about.resource_types.map((type) => <option key={type} selected={type === value}>{type}</option>)}
      </select>
    </label>
  );
}
