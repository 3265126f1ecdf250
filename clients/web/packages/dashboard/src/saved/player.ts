/** The script of a saved run: shows it as of its end, and as of any event. */
import { isEnded, isItem, isSettled, type RunState, type Step, titleOf } from "../run/fold.ts";
import { History } from "../run/history.ts";
import { drawingOf, type Shape } from "../run/shape.ts";
import { whyOf } from "../run/why.ts";
import { clock, duration, moment } from "../ui/format.ts";
import type { SavedRun } from "./page.ts";

const SVG = "http://www.w3.org/2000/svg";
/** More rows make a page slow; a saved run has no virtual list. */
const MAX_ROWS = 400;
const MAX_EVENTS = 500;

const saved = JSON.parse(document.getElementById("run")?.textContent ?? "{}") as SavedRun;
const history = new History();
for (const event of saved.events) history.add(event);
const total = saved.events.length;
const drawing = drawingOf(saved.graph, history.latest.steps, new Set());
const places = new Map(saved.places.map(([id, x, y]) => [id, { x, y }]));

let at = total;
let selected: string | null = null;

type Child = Node | string | null;

function element(name: string, attributes: Record<string, string> = {}, ...children: Child[]) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

function drawn(name: string, attributes: Record<string, string | number>, ...children: Node[]) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

function show(): void {
  const run = history.at(at);
  const event = saved.events[at - 1];
  const time = Date.parse(event?.timestamp ?? "");
  position.textContent = `event ${at} of ${total} · ${event?.type ?? ""} · ${clock(event?.timestamp, true)}`;
  slider.value = String(at);
  slider.setAttribute("aria-valuetext", position.textContent);
  head.replaceChildren(...headOf(run, time));
  graph.replaceChildren(graphOf(run));
  timeline.replaceChildren(...timelineOf(run, time));
  side.replaceChildren(...sideOf(run));
  list.replaceChildren(...eventsOf());
}

function headOf(run: RunState, time: number): Node[] {
  const why = whyOf(run, new Map(), time);
  const took = isEnded(run) ? run.duration_ms : time - Date.parse(run.started_at ?? "");
  return [
    element(
      "div",
      { class: "title" },
      element("h1", {}, run.workflow_name || run.workflow_id),
      status(run.status),
    ),
    element(
      "p",
      { class: "muted" },
      element("code", {}, run.execution_id),
      ` · version ${run.version} · started ${moment(run.started_at ?? run.created_at)} · ${duration(took)}`,
      ` · saved ${moment(saved.savedAt)}${saved.isShortened ? ", without large values" : ""}`,
    ),
    ...(why
      ? [
          element(
            "p",
            { class: `why is-${why.status}` },
            element("b", {}, why.question),
            ` ${why.step ? titleOf(why.step) : ""} ${why.answer}`,
          ),
        ]
      : []),
  ];
}

const status = (value: string): HTMLElement =>
  element("span", { class: `status is-${value}`, "data-status": value }, value);

function worst(shape: Shape, run: RunState): string {
  const own = run.steps.get(shape.id)?.status;
  if (own || !shape.members.length) return own ?? "pending";
  const all = new Set(shape.members.map((id) => run.steps.get(id)?.status ?? "pending"));
  const order = ["error", "retrying", "waiting", "running", "pending", "cancelled"] as const;
  return order.find((each) => all.has(each)) ?? "success";
}

function graphOf(run: RunState): Node {
  const boxes = drawing.shapes.flatMap((shape) => {
    const place = places.get(shape.id);
    return place ? [{ ...shape, ...place }] : [];
  });
  const of = new Map(boxes.map((box) => [box.id, box]));
  const right = Math.max(0, ...boxes.map(({ x, width }) => x + width));
  const top = Math.min(0, ...boxes.map(({ y }) => y));
  const bottom = Math.max(0, ...boxes.map(({ y, height }) => y + height));
  const lines = drawing.edges.flatMap(({ source, target }) => {
    const [from, to] = [of.get(source), of.get(target)];
    if (!from || !to) return [];
    const [x, y] = [from.x + from.width, from.y + from.height / 2];
    const [endX, endY] = [to.x, to.y + to.height / 2];
    const bend = Math.max(25, (endX - x) / 2);
    const d = `M${x} ${y}C${x + bend} ${y} ${endX - bend} ${endY} ${endX} ${endY}`;
    return [drawn("path", { d, class: "line" })];
  });
  const nodes = boxes.map((box) => {
    const state = worst(box, run);
    const node = drawn("g", {
      class: `shape is-${state} ${box.id === selected ? "selected" : ""}`,
      transform: `translate(${box.x} ${box.y})`,
      "data-node": box.id,
      "data-status": state,
    });
    const label = drawn("text", { x: 12, y: 20, class: "name" });
    label.textContent = box.title.length > 24 ? `${box.title.slice(0, 23)}…` : box.title;
    const below = drawn("text", { x: 12, y: 38 });
    const done = box.members.filter((id) => run.steps.get(id)?.status === "success").length;
    below.textContent = box.members.length ? `${done} of ${box.members.length} · ${state}` : state;
    const edge = drawn("rect", { width: 3, height: box.height, class: "edge" });
    const frame = drawn("rect", { width: box.width, height: box.height, rx: 8, class: "frame" });
    node.append(frame, edge, label, below);
    node.addEventListener("click", () => choose(box.id));
    return node;
  });
  const view = `-16 ${top - 16} ${right + 32} ${bottom - top + 32}`;
  const width = Math.max(right + 32, 1);
  const svg = drawn("svg", { viewBox: view, role: "img", width }, ...lines, ...nodes);
  svg.setAttribute("aria-label", "Graph of the steps; the timeline lists them");
  return svg;
}

function timelineOf(run: RunState, time: number): Node[] {
  const start = Date.parse(run.started_at ?? run.created_at ?? "");
  const span = Math.max((run.finished_at ? Date.parse(run.finished_at) : time) - start, 20);
  const all = [...run.steps.values()]
    .filter((step) => step.started_at)
    .sort((a, b) => ((a.started_at ?? "") < (b.started_at ?? "") ? -1 : 1));
  const rows = all.slice(0, MAX_ROWS).map((step) => {
    const begin = Date.parse(step.started_at ?? "");
    const end = isSettled(step) ? Date.parse(step.completed_at ?? "") : start + span;
    const bar = element("i", { class: `is-${step.status}` });
    bar.style.left = `${Math.max(0, ((begin - start) / span) * 100)}%`;
    bar.style.width = `${Math.max(((end - begin) / span) * 100, 0.3)}%`;
    const row = element(
      "button",
      {
        type: "button",
        class: `row ${isItem(step) ? "item" : ""} ${step.node_id === selected ? "selected" : ""}`,
        "data-step": step.node_id,
      },
      element("span", { class: "clip" }, titleOf(step)),
      status(step.status),
      element("span", { class: "lane" }, bar),
      element("span", { class: "num" }, duration(isSettled(step) ? step.duration_ms : end - begin)),
    );
    row.addEventListener("click", () => choose(step.node_id));
    return row;
  });
  const more = all.length - rows.length;
  return more > 0 ? [...rows, element("p", { class: "muted" }, `${more} more steps`)] : rows;
}

function sideOf(run: RunState): Node[] {
  const step = selected ? run.steps.get(selected) : undefined;
  if (!step) {
    return [
      element("h2", {}, "Input"),
      value(run.input),
      element("h2", {}, run.error ? "Error" : "Output"),
      value(run.error ?? run.output),
    ];
  }
  return [
    element("h2", {}, titleOf(step), " ", status(step.status)),
    element("p", { class: "muted" }, factsOf(step)),
    ...(step.error ? [element("h3", {}, "Error"), value(step.error_detail || step.error)] : []),
    element("h3", {}, "Output"),
    value(step.output),
  ];
}

const factsOf = (step: Step): string =>
  [
    step.node_id,
    step.node_type,
    step.attempt > 1 ? `attempt ${step.attempt}` : "",
    step.started_at ? `started ${clock(step.started_at, true)}` : "",
    step.duration_ms === null ? "" : `took ${duration(step.duration_ms)}`,
  ]
    .filter(Boolean)
    .join(" · ");

const value = (shown: unknown): Node =>
  element(
    "pre",
    { tabindex: "0" },
    typeof shown === "string" ? shown : JSON.stringify(shown, null, 2),
  );

function eventsOf(): Node[] {
  const from = Math.max(0, at - MAX_EVENTS);
  return saved.events
    .slice(from, at)
    .map(({ type, timestamp, data }, index) => {
      const row = element(
        "button",
        { type: "button", class: "event" },
        element("span", { class: "muted" }, String(from + index + 1)),
        element("code", { class: "muted" }, clock(timestamp, true)),
        element("code", {}, type),
        element(
          "span",
          { class: "clip" },
          [data.node_id, data.message ?? data.error].filter(Boolean).join(" · "),
        ),
      );
      row.addEventListener("click", () => seek(from + index + 1));
      return row;
    })
    .reverse();
}

function choose(id: string): void {
  selected = selected === id ? null : id;
  show();
}

function seek(to: number): void {
  at = Math.min(Math.max(to, 1), total);
  show();
}

const [head, graph, timeline, side, list] = [
  element("header"),
  element("div", { class: "graph" }),
  element("section", { class: "timeline", "aria-label": "Timeline" }),
  element("aside", { "aria-label": "Values" }),
  element("section", { class: "events", "aria-label": "Events, newest first" }),
];
const position = element("output");
const slider = element("input", {
  type: "range",
  min: "1",
  max: String(total),
  "aria-label": "Event",
}) as HTMLInputElement;
slider.addEventListener("input", () => seek(Number(slider.value)));
addEventListener("keydown", ({ key }) => {
  if (key === ",") seek(at - 1);
  else if (key === ".") seek(at + 1);
  else if (key === "L") seek(total);
});
document
  .getElementById("root")
  ?.replaceChildren(
    element(
      "main",
      {},
      head,
      element("div", { class: "foot" }, slider, position),
      graph,
      element("div", { class: "two" }, timeline, side),
      element("details", {}, element("summary", {}, "Events"), list),
    ),
  );
show();
