// The flow as a drawing: actors and dependencies as buttons on a grid, with arrows between them.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Actor, Readiness } from "./api";
import { type Feed, actorsOf, rateOf } from "./feed";
import { type Edge, type Flow, flowOf } from "./flow-model";
import { duration, rate, whole, words } from "./format";
import { link } from "./hooks";
import { Level, State } from "./ui";

interface Drawn {
  edge: Edge;
  path: string;
  /** Where the rate stands. */
  x: number;
  y: number;
  isVertical: boolean;
}

/** The space between a box and an arrow. */
const GAP = 4;
/** Boxes that overlap less than this in a direction are not beside each other. */
const OVERLAP = 12;

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** The arrow from one box to another: straight if they are beside each other, else with one bend. */
function arrow(edge: Edge, from: Box, to: Box): Drawn {
  const [top, bottom] = [Math.max(from.top, to.top), Math.min(from.bottom, to.bottom)];
  const [left, right] = [Math.max(from.left, to.left), Math.min(from.right, to.right)];
  const isRight = to.left > from.left;
  const isDown = to.top > from.top;
  if (bottom - top > OVERLAP) {
    const y = (top + bottom) / 2;
    const [x1, x2] = isRight ? [from.right + GAP, to.left - GAP] : [from.left - GAP, to.right + GAP];
    return { edge, path: `M${x1} ${y}H${x2}`, x: (x1 + x2) / 2, y, isVertical: false };
  }
  if (right - left > OVERLAP) {
    const x = (left + right) / 2;
    const [y1, y2] = isDown ? [from.bottom + GAP, to.top - GAP] : [from.top - GAP, to.bottom + GAP];
    return { edge, path: `M${x} ${y1}V${y2}`, x, y: (y1 + y2) / 2, isVertical: true };
  }
  const x1 = (from.left + from.right) / 2;
  const y1 = isDown ? from.bottom + GAP : from.top - GAP;
  const x2 = isRight ? to.left - GAP : to.right + GAP;
  const y2 = (to.top + to.bottom) / 2;
  return { edge, path: `M${x1} ${y1}V${y2}H${x2}`, x: (x1 + x2) / 2, y: y2, isVertical: false };
}

/** Whether an arrow crosses a box. */
function crosses(path: string, boxes: Box[]): boolean {
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  const length = line.getTotalLength();
  for (let at = 0; at <= length; at += 8) {
    const { x, y } = line.getPointAtLength(at);
    if (boxes.some((box) => x > box.left && x < box.right && y > box.top && y < box.bottom)) return true;
  }
  return false;
}

function Arrows({ edges, feed, name }: { edges: Edge[]; feed: Feed; name: string }) {
  const svg = useRef<SVGSVGElement>(null);
  const [drawn, setDrawn] = useState<Drawn[]>([]);
  useLayoutEffect(() => {
    const grid = svg.current!.parentElement!;
    const draw = () => {
      const origin = grid.getBoundingClientRect();
      const boxes = new Map<string, Box>();
      for (const node of grid.querySelectorAll<HTMLElement>("[data-node]")) {
        const { left, right, top, bottom, width } = node.getBoundingClientRect();
        if (width === 0) continue;
        boxes.set(node.dataset.node!, { left: left - origin.left, right: right - origin.left, top: top - origin.top, bottom: bottom - origin.top });
      }
      setDrawn(
        edges.flatMap((edge) => {
          const [from, to] = [boxes.get(edge.from), boxes.get(edge.to)];
          if (!from || !to) return [];
          const others = [...boxes].filter(([name]) => name !== edge.from && name !== edge.to).map(([, box]) => box);
          const drawn = arrow(edge, from, to);
          return crosses(drawn.path, others) ? [] : [drawn];
        }),
      );
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(grid);
    return () => observer.disconnect();
  }, [name]);
  return (
    <svg class="arrows" ref={svg} aria-hidden="true">
      <defs>
        <marker id="head" viewBox="0 0 8 8" refX="6.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">
          <path d="M1 1 7 4 1 7" />
        </marker>
      </defs>
      {drawn.map(({ edge, path, x, y, isVertical }) => {
        const perSecond = edge.of ? rateOf(feed, edge.of.actor, edge.of.counter) : 0;
        return (
          <g key={`${edge.from}-${edge.to}`} data-edge={`${edge.from} ${edge.to}`} class={perSecond > 0 ? "busy" : ""}>
            <path class="line" d={path} marker-end="url(#head)" />
            {perSecond > 0 && <path class="pulse" d={path} />}
            {edge.of && <text class={isVertical ? "aside" : ""} x={isVertical ? x + 8 : x} y={isVertical ? y + 4 : y - 6}>{rate(perSecond)}/s</text>}
          </g>
        );
      })}
    </svg>
  );
}

/** The greatest p99 of an actor's messages. */
const slowest = (actor: Actor) => Math.max(0, ...actor.messages.map((message) => message.latency_ms.p99));

function ActorNode({ actor, feed, area }: { actor: Actor; feed: Feed; area?: string }) {
  const { depth, capacity, oldest_ms } = actor.mailbox;
  const perSecond = rateOf(feed, actor.name, (actor) => actor.processed);
  const failures = rateOf(feed, actor.name, (actor) => actor.errors);
  const isOff = actor.state === "disabled";
  const p99 = slowest(actor);
  const waits = actor.waits_for.map((wait) => words(wait.actor));
  return (
    <a class="node" href={link(`actors/${actor.name}`)} data-node={actor.name} data-area={area} data-state={actor.state}>
      <span class="node-name"><State state={actor.state} quiet />{words(actor.name)}</span>
      {isOff || actor.state !== "running" ? (
        <span class="node-reason">{actor.state}{actor.reason ? `: ${actor.reason}` : ""}</span>
      ) : (
        <span class="node-rate"><b>{rate(perSecond)}</b>/s{p99 > 0 && <> · p99 {duration(p99)}</>}</span>
      )}
      {!isOff && (
        <span class="node-depth">
          <Level value={depth} most={capacity} />
          <span>{whole(depth)}{depth > 0 && oldest_ms > 100 ? ` · ${duration(oldest_ms)}` : ""}</span>
        </span>
      )}
      {failures > 0 && <span class="node-failures">{rate(failures)} failures/s</span>}
      {waits.length > 0 && <span class="node-waits">waits for {waits.join(", ")}</span>}
    </a>
  );
}

export function FlowView({ feed, readiness }: { feed: Feed; readiness: Readiness | undefined }) {
  const actors = actorsOf(feed);
  const actorOf = (name: string) => actors.find((actor) => actor.name === name);
  const flow: Flow = flowOf(actors, readiness);
  const parts = readiness?.parts ?? {};
  // Arrows are drawn anew when boxes come and go.
  const name = flow.nodes.map((node) => node.name).concat(flow.edges.map((edge) => edge.from + edge.to)).join(" ");
  return (
    <>
      <div class={`flow ${flow.hasBroker ? "with-broker" : "embedded"}`}>
        <Arrows edges={flow.edges} feed={feed} name={name} />
        {flow.nodes.map((node) => {
          if (node.kind === "actor") {
            const actor = actorOf(node.name);
            return actor && <ActorNode key={node.name} actor={actor} feed={feed} area={node.area} />;
          }
          const part = node.part ? parts[node.part] : undefined;
          const state = !readiness ? "unknown" : node.name === "api" ? (readiness.ready ? "up" : "down") : part?.state ?? "absent";
          const said = node.name !== "api"
            ? `${node.note}${state === "up" ? "" : `, ${state}`}`
            : readiness ? (readiness.ready ? "accepts likes" : `not ready: ${readiness.reasons.join(", ")}`) : state;
          return (
            <a key={node.name} class="node part" data-node={node.name} data-area={node.area} data-state={state} href={link("dependencies")}>
              <span class="node-name"><State state={state} quiet />{node.title}</span>
              <span class="node-reason">{said}</span>
            </a>
          );
        })}
      </div>
      {flow.beside.length > 0 && (
        <div class="beside">
          {flow.beside.map((name) => {
            const actor = actorOf(name)!;
            return <ActorNode key={name} actor={actor} feed={feed} />;
          })}
        </div>
      )}
      {flow.off.length > 0 && (
        <p class="off hint">
          Off: {flow.off.map(({ name, reason }, index) => (
            <span key={name}>{index > 0 && "; "}<a href={link(`actors/${name}`)}>{words(name)}</a> ({reason})</span>
          ))}.
        </p>
      )}
    </>
  );
}
