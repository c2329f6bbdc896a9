// Requests to the API of this origin, with the token of the tab and the name of the operator.

import { parse } from "./json";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Snapshot = Schemas["Snapshot"];
export type Actor = Schemas["ActorReport"];
export type Message = Schemas["MessageReport"];
export type LedgerEntry = Schemas["LedgerEntry"];
export type LedgerPage = Schemas["LedgerPage"];
export type LedgerHealth = Schemas["LedgerHealth"];
export type Timeline = Schemas["Timeline"];
export type Moment = Schemas["Moment"];
export type Job = Schemas["Job"];
export type Counted = Schemas["Counted"];
export type Audits = Schemas["Audits"];
export type Quarantined = Schemas["QuarantinedMessage"];
export type QuarantinePage = Schemas["QuarantinePage"];
export type Webhooks = Schemas["Webhooks"];
export type DeadLetter = Schemas["DeadWebhook"];
export type DeadLetters = Schemas["DeadWebhooks"];
export type CountedLikes = Schemas["CountedLikes"];
export type StreamReport = Schemas["StreamReport"];
export type Deployment = Schemas["DeploymentReport"];
export type History = Schemas["History"];
export type Operation = Schemas["Operation"];
export type OperationPage = Schemas["OperationPage"];
export type Readiness = Schemas["Readiness"];
export type Like = Schemas["Like"];

/** What the server says of itself in the page. */
export interface About {
  version: string;
  /** Whether users need a token. */
  sign_in: boolean;
  public_reads: boolean;
  role: "all" | "api" | "worker";
  resource_types: string[];
  user_ids: "number" | "uuid" | "text";
  resource_ids: "number" | "uuid" | "text";
  /** Whether the front page may send likes. */
  demo: boolean;
}

export const about: About = JSON.parse(document.body.dataset.about!);

/** An answer that is not a success: an RFC 9457 problem, or no answer at all. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const TOKEN = "likewise.token";
const OPERATOR = "likewise.operator";

/** The token of this tab; it ends with the tab. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (text: string) => sessionStorage.setItem(TOKEN, text),
  clear: () => sessionStorage.removeItem(TOKEN),
};

/** The name that the operator gives for the record. */
export const operatorName = {
  get: () => localStorage.getItem(OPERATOR) ?? "",
  set: (name: string) =>
    name ? localStorage.setItem(OPERATOR, name) : localStorage.removeItem(OPERATOR),
};

/** The headers of a request to a path. The token is an operator's, who is no user. */
export function headers(path: string, more: Record<string, string> = {}): Record<string, string> {
  const all: Record<string, string> = { Accept: "application/json", ...more };
  if (token.get() && path.startsWith("admin/")) all.Authorization = `Bearer ${token.get()}`;
  return all;
}

export interface Options {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  /** The body as a value, or as JSON text. */
  body?: unknown;
  json?: string;
  user?: string;
  signal?: AbortSignal;
  /** Statuses besides 2xx whose body is an answer. */
  accept?: number[];
}

/** What a page says when a request got no answer: the browser's own words say less. */
export const UNREACHABLE = "the service does not answer";

/** The time after which a question has no answer. What a request changes may take longer. */
const PATIENCE_MS = 15_000;

/** Sends a request to a path such as `admin/actors`, relative to the page. Throws `Refused`. */
export async function request<T>(path: string, options: Options = {}): Promise<T> {
  const method = options.method ?? "GET";
  const body = options.json ?? (options.body === undefined ? undefined : JSON.stringify(options.body));
  const more: Record<string, string> = {};
  if (body !== undefined) more["Content-Type"] = "application/json";
  if (options.user) more["X-User-Id"] = options.user;
  if (method !== "GET" && operatorName.get()) more["X-Operator"] = operatorName.get();
  const signals = [options.signal, method === "GET" ? AbortSignal.timeout(PATIENCE_MS) : undefined];
  const signal = AbortSignal.any(signals.filter((one) => one !== undefined));
  let response: Response;
  let text: string;
  try {
    response = await fetch(path, { method, body, headers: headers(path, more), signal });
    text = await response.text();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused(0, "unreachable", UNREACHABLE);
  }
  const value = isJson(response) ? parse(text) : text;
  if (response.ok || options.accept?.includes(response.status)) return value as T;
  const { code = "unknown", detail = `the service answered ${response.status}` } =
    typeof value === "object" ? value : {};
  if (response.status === 401) onUnauthorized(detail);
  throw new Refused(response.status, code, detail);
}

function isJson(response: Response): boolean {
  return /[/+]json/.test(response.headers.get("Content-Type") ?? "");
}

let onUnauthorized: (detail: string) => void = () => {};

/** Calls this when the service wants a token, or another one. */
export function whenUnauthorized(callback: (detail: string) => void) {
  onUnauthorized = callback;
}

/** The query of these parameters, without empty ones. */
export function query(parameters: Record<string, string | number | undefined>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}

export function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
