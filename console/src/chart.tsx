// A chart over time, drawn by uPlot in the colors of the page.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface Series {
  label: string;
  /** The name of a color of the page, such as `accent`. */
  color: string;
}

interface Properties {
  title: string;
  /** The value as text. */
  show: (value: number) => string;
  series: Series[];
  /** The times in seconds, and the values of each series. */
  data: [number[], ...(number | null)[][]];
  /** Whether values are whole, so that ticks are too. */
  isWhole?: boolean;
  /** Whether a line goes on over times without a value. */
  isJoined?: boolean;
}

const HEIGHT = 168;

/** The distances of ticks between whole values. */
const WHOLE = Array.from({ length: 10 }, (_, zeros) => [1, 2, 5].map((digit) => digit * 10 ** zeros)).flat();

function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The local time of a tick, with seconds only where ticks are less than a minute apart. */
function clock(at: number, ticks: number[]): string {
  const isFine = ticks.length > 1 && ticks[1]! - ticks[0]! < 60;
  return new Date(at * 1_000).toTimeString().slice(0, isFine ? 8 : 5);
}

export function Chart({ title, show, series, data, isWhole = false, isJoined = false }: Properties) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const latest = useRef(data);
  latest.current = data;
  const shown = (value: number | null | undefined) => (value === null || value === undefined ? "–" : show(value));
  const names = series.map((one) => one.label).join();
  useEffect(() => {
    const element = frame.current!;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const draw = () => {
      plot.current?.destroy();
      const axis = { stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
      plot.current = new uPlot(
        {
          width: element.clientWidth,
          height: HEIGHT,
          padding: [8, 20, 0, 0],
          cursor: { y: false, points: { size: 6 } },
          legend: { live: true, markers: { show: false } },
          axes: [
            { ...axis, space: 76, size: 28, values: (_, ticks) => ticks.map((tick) => clock(tick, ticks)) },
            { ...axis, size: 54, space: 34, incrs: isWhole ? WHOLE : undefined, values: (_, ticks) => ticks.map((tick) => show(tick)) },
          ],
          scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, 1)] } },
          series: [
            { label: "At", value: (_, at) => (at === null || at === undefined ? "the end" : new Date(at * 1_000).toTimeString().slice(0, 8)) },
            ...series.map(({ label, color: name }) => ({
              label,
              stroke: color(name),
              width: 1.5,
              spanGaps: isJoined,
              points: { show: false },
              value: (plot: uPlot, value: number | null, index: number) => shown(plot.cursor.idx === null || plot.cursor.idx === undefined ? plot.data[index]?.at(-1) : value),
            })),
          ],
        },
        latest.current as uPlot.AlignedData,
        element,
      );
    };
    draw();
    const observer = new ResizeObserver(() => {
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    observer.observe(element);
    dark.addEventListener("change", draw);
    return () => {
      observer.disconnect();
      dark.removeEventListener("change", draw);
      plot.current?.destroy();
    };
  }, [names]);
  useEffect(() => plot.current?.setData(data as uPlot.AlignedData), [data]);
  const last = series.map(({ label }, index) => {
    const value = data[index + 1]?.at(-1);
    return `${label} ${value === null || value === undefined ? "unknown" : show(value)}`;
  });
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div class="plot" ref={frame} role="img" aria-label={`${title}: now ${last.join(", ")}`} />
    </figure>
  );
}
