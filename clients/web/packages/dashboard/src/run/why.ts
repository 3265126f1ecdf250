/** Why a run is not done, or why it failed. Pure. */
import type { GraphDocument, NodeStatistics } from "../data/types.ts";
import { clock, duration, until } from "../ui/format.ts";
import { isEnded, nodeOf, type RunState, type Step } from "./fold.ts";
import { needsOf } from "./shape.ts";

export interface Why {
  status: string;
  question: string;
  step: Step | null;
  answer: string;
  action: "decide" | "resume" | "child" | "rerun" | null;
}

type Usual = ReadonlyMap<string, NodeStatistics>;

function usually(step: Step, usual: Usual): string {
  const latency = usual.get(nodeOf(step.node_id))?.latency;
  if (!latency?.count || latency.p50_ms === null || latency.p90_ms === null) return "";
  if (latency.p90_ms < latency.p50_ms * 1.15) return ` · usually ${duration(latency.p90_ms)}`;
  return ` · usually ${duration(latency.p50_ms)} to ${duration(latency.p90_ms)}`;
}

function answer(
  status: string,
  step: Step | null,
  text: string,
  action: Why["action"] = null,
): Why {
  return { status, question: "Why is it not done?", step, answer: text, action };
}

export function whyOf(run: RunState, usual: Usual, now: number): Why | null {
  if (run.status === "failed") return whyFailed(run);
  if (isEnded(run) || run.status === null) return null;
  if (run.status === "queued") {
    const text = `waits for a worker since ${clock(run.created_at)}. All are busy, or a limit of the workflow or its tenant keeps it in line.`;
    return answer("queued", null, text);
  }
  if (run.held) {
    const pause = [...run.commands.values()].findLast((each) => each.command === "pause");
    const by = pause?.actor ? ` by ${pause.actor}` : "";
    const text = `paused on request${by} at ${clock(pause?.at)}; running steps finish, no other starts.`;
    return answer("paused", null, text, "resume");
  }
  const steps = [...run.steps.values()];
  return whyWaiting(steps, usual, now) ?? whyRunning(steps, run, usual, now);
}

function whyWaiting(steps: Step[], usual: Usual, now: number): Why | null {
  const waiting = steps.filter((step) => step.status === "waiting");
  const decision = waiting.find((step) => step.waiting?.kind === "signal");
  if (decision?.waiting) {
    const { triggers = [], until: limit } = decision.waiting;
    const what = triggers.length ? `a decision or ${triggers.join(", ")}` : "a decision";
    const left = limit ? ` · ${until(limit, now).replace(/^in /, "")} left` : "";
    const text = `waits for ${what} since ${clock(decision.waiting?.since)}${left}${usually(decision, usual)}`;
    return answer("waiting", decision, text, "decide");
  }
  const retrying = steps.find((step) => step.status === "retrying");
  if (retrying) {
    const text = `failed (${retrying.error}); attempt ${retrying.attempt + 1} ${until(retrying.waiting?.until, now)}`;
    return answer("retrying", retrying, text);
  }
  const child = waiting.find((step) => step.waiting?.kind === "child");
  if (child) return answer("running", child, "waits for its child run", "child");
  const timer = waiting.find((step) => step.waiting?.kind === "time");
  if (timer && !steps.some((step) => step.status === "running")) {
    return answer("waiting", timer, `waits for a time: ${until(timer.waiting?.until, now)}`);
  }
  return null;
}

function whyRunning(steps: Step[], run: RunState, usual: Usual, now: number): Why | null {
  const running = steps.filter((step) => step.status === "running" && step.items === null);
  const [oldest] = running.sort((a, b) => (a.started_at ?? "").localeCompare(b.started_at ?? ""));
  if (!oldest?.started_at) return answer("running", null, "a worker is about to go on");
  const took = now - Date.parse(oldest.started_at);
  const p90 = usual.get(nodeOf(oldest.node_id))?.latency.p90_ms;
  const late = p90 && took > 2 * p90 ? ` · ${Math.round(took / p90)} times its p90` : "";
  const others = running.length > 1 ? ` · ${running.length - 1} more beside it` : "";
  const eta = run.eta_ms ? ` · about ${duration(run.eta_ms)} left` : "";
  const message = oldest.message ? ` · ${oldest.message}` : "";
  const text = `runs for ${duration(took)}${usually(oldest, usual)}${late}${message}${others}${eta}`;
  return answer("running", oldest, text);
}

function whyFailed(run: RunState): Why {
  const failed = [...run.steps.values()].filter((step) => step.status === "error");
  const first = failed.sort((a, b) =>
    (a.completed_at ?? "").localeCompare(b.completed_at ?? ""),
  )[0];
  return {
    status: "failed",
    question: "Why did it fail?",
    step: first ?? null,
    answer: first
      ? `failed at ${clock(first.completed_at)} after ${first.attempt} attempt${first.attempt > 1 ? "s" : ""}: ${first.error}`
      : (run.error ?? "it could not go on"),
    action: "rerun",
  };
}

/** Return the chain of steps that decided when the run ended, from the log alone. */
export function criticalPath(graph: GraphDocument, steps: ReadonlyMap<string, Step>): Set<string> {
  const needs = needsOf(graph);
  const latest = (ids: string[]) =>
    ids
      .map((id) => steps.get(id))
      .filter((step) => step?.completed_at)
      .sort((a, b) => (b?.completed_at ?? "").localeCompare(a?.completed_at ?? ""))[0];
  const path = new Set<string>();
  let step = latest(graph.nodes.map((node) => node.id));
  while (step && !path.has(step.node_id)) {
    path.add(step.node_id);
    step = latest(needs.get(step.node_id) ?? []);
  }
  return path;
}
