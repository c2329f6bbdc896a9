// Numbers, times and durations as text.

const WHOLE = new Intl.NumberFormat("en");
const TENTHS = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const whole = (number: number | string) =>
  typeof number === "string" ? number : WHOLE.format(Math.round(number));

/** A number a second: with a decimal only if it is small. */
export function rate(number: number): string {
  if (number === 0) return "0";
  return number < 9.95 ? TENTHS.format(number) : WHOLE.format(Math.round(number));
}

/** Milliseconds with a unit that suits them. */
export function duration(ms: number): string {
  if (ms < 0) return `−${duration(-ms)}`;
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1_000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = seconds / 60;
  if (minutes < 120) return `${Math.round(minutes)} min`;
  const hours = minutes / 60;
  return hours < 48 ? `${Math.round(hours)} h` : `${Math.round(hours / 24)} d`;
}

const pad = (number: number, digits = 2) => String(number).padStart(digits, "0");

/** The local time of day, with the date unless it is today. */
export function time(iso: string | null | undefined, precise = false): string {
  if (!iso) return "–";
  const at = new Date(iso);
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  const exact = precise ? `${clock}.${pad(at.getMilliseconds(), 3)}` : clock;
  if (at.toDateString() === new Date().toDateString()) return exact;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${exact}`;
}

/** How long ago a moment was. */
export function ago(iso: string | null | undefined): string {
  if (!iso) return "–";
  const ms = Date.now() - Date.parse(iso);
  return ms < 1_000 ? "just now" : `${duration(ms)} ago`;
}

/** Microseconds since the epoch, of a time with up to nine decimals. */
export function micros(iso: string): number {
  const decimals = /\.(\d+)/.exec(iso)?.[1] ?? "";
  const seconds = Date.parse(iso.replace(/\.\d+/, ""));
  return seconds * 1_000 + Number(decimals.padEnd(6, "0").slice(0, 6));
}

export function bytes(number: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (number >= 1_000 && unit < units.length - 1) {
    number /= 1_000;
    unit += 1;
  }
  return `${unit === 0 ? number : number.toFixed(1)} ${units[unit]}`;
}

/** `retry_scheduler` as "retry scheduler". */
export const words = (name: string) => name.replaceAll("_", " ");

export const plural = (number: number, one: string, many = `${one}s`) =>
  `${whole(number)} ${number === 1 ? one : many}`;
