// The icons: outlines of 20 × 20, in the color of the text.

const PATHS = {
  heart: "M10 17S2.5 12.6 2.5 7.4A3.9 3.9 0 0 1 10 5.8a3.9 3.9 0 0 1 7.5 1.6C17.5 12.6 10 17 10 17Z",
  flow: "M3 5h4v4H3zM13 11h4v4h-4zM7 7h3a2 2 0 0 1 2 2v2a2 2 0 0 0 1 2",
  list: "M3 5h14M3 10h14M3 15h9",
  shield: "M10 2.5 16 5v4.5c0 4-2.6 6.8-6 8-3.4-1.2-6-4-6-8V5Z",
  search: "M8.5 14a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11ZM12.5 12.5 17 17",
  jobs: "M4 6.5h12v9H4zM7.5 6.5v-2h5v2M4 10.5h12",
  check: "M4 10.5 8 14.5 16 5.5",
  stream: "M2.5 7c2.5-2 5-2 7.5 0s5 2 7.5 0M2.5 13c2.5-2 5-2 7.5 0s5 2 7.5 0",
  plug: "M7 3v4M13 3v4M5 7h10v2a5 5 0 0 1-10 0ZM10 14v3",
  send: "M17 3 9 11M17 3l-5 14-3-6-6-3Z",
  user: "M10 10a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM3.5 17c.8-3 3.3-4.5 6.5-4.5s5.7 1.5 6.5 4.5",
  close: "M5 5l10 10M15 5 5 15",
  pause: "M7 4.5v11M13 4.5v11",
  play: "M6 4.5 15 10l-9 5.5Z",
  restart: "M16 10a6 6 0 1 1-2-4.5M16 3v3.5h-3.5",
  warning: "M10 3 18 16.5H2ZM10 8v4M10 14.2v.1",
  arrow: "M4 10h12M11 5l5 5-5 5",
  book: "M4 4h5a2 2 0 0 1 1 1 2 2 0 0 1 1-1h5v11h-5a2 2 0 0 0-1 1 2 2 0 0 0-1-1H4ZM10 5v11",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, filled = false }: { name: IconName; filled?: boolean }) {
  return (
    <svg class={filled ? "icon filled" : "icon"} viewBox="0 0 20 20" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
