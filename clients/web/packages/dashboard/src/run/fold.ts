/** The state of a run as a fold of its events, the same as the API's. Pure. */
import type { Json, RunStatus, StepStatus, WaitingFor } from "../data/types.ts";

export interface RunEvent {
  type: string;
  data: { [key: string]: Json };
  timestamp: string;
}

export interface Step {
  readonly id: string;
  readonly type: string;
  readonly name: string;
  readonly status: StepStatus;
  readonly attempt: number;
  readonly startedAt: string | null;
  readonly completedAt: string | null;
  readonly durationMs: number | null;
  readonly output: Json;
  readonly error: string | null;
  readonly errorDetail: string;
  readonly wait: WaitingFor | null;
  readonly waitingSince: string | null;
  readonly retryAt: string | null;
  readonly percent: number | null;
  readonly message: string;
  readonly items: number | null;
  readonly keptFrom: string | null;
  readonly skipReason: string;
  readonly decidedBy: string | null;
}

export interface RunState {
  id: string;
  workflowId: string;
  workflowName: string;
  version: number;
  status: RunStatus | null;
  input: Json;
  output: Json;
  error: string | null;
  reason: string;
  createdAt: string | null;
  startedAt: string | null;
  finishedAt: string | null;
  durationMs: number | null;
  progress: number | null;
  etaMs: number | null;
  rerunOf: string | null;
  parent: string | null;
  held: boolean;
  pausedAt: string | null;
  steps: Map<string, Step>;
}

const ENDED = new Set(["completed", "failed", "cancelled"]);
const SETTLED = new Set<StepStatus>(["success", "error", "skipped", "cancelled"]);

export const isEnded = (status: RunStatus | null) => status !== null && ENDED.has(status);
export const isSettled = (status: StepStatus) => SETTLED.has(status);

export function emptyRun(): RunState {
  return {
    id: "",
    workflowId: "",
    workflowName: "",
    version: 0,
    status: null,
    input: null,
    output: null,
    error: null,
    reason: "",
    createdAt: null,
    startedAt: null,
    finishedAt: null,
    durationMs: null,
    progress: null,
    etaMs: null,
    rerunOf: null,
    parent: null,
    held: false,
    pausedAt: null,
    steps: new Map(),
  };
}

/** Steps never change, they are replaced; so a copy shares them. */
export function copyRun(run: RunState): RunState {
  return { ...run, steps: new Map(run.steps) };
}

export function pendingStep(id: string, type = "", name = id): Step {
  return {
    id,
    type,
    name,
    status: "pending",
    attempt: 0,
    startedAt: null,
    completedAt: null,
    durationMs: null,
    output: null,
    error: null,
    errorDetail: "",
    wait: null,
    waitingSince: null,
    retryAt: null,
    percent: null,
    message: "",
    items: null,
    keptFrom: null,
    skipReason: "",
    decidedBy: null,
  };
}

const text = (value: Json | undefined): string => (typeof value === "string" ? value : "");
const maybe = (value: Json | undefined): string | null =>
  typeof value === "string" ? value : null;
const number = (value: Json | undefined): number | null =>
  typeof value === "number" ? value : null;

export function apply(run: RunState, event: RunEvent): void {
  const [about] = event.type.split(":", 1);
  if (about === "execution") applyExecution(run, event);
  else if (about === "step") applyStep(run, event);
  else if (event.type === "command:requested") applyCommand(run, event);
}

function applyExecution(run: RunState, { type, data, timestamp }: RunEvent): void {
  run.status = (maybe(data.status) as RunStatus | null) ?? run.status;
  switch (type) {
    case "execution:queued":
      run.id = text(data.execution_id);
      run.workflowId = text(data.workflow_id);
      run.workflowName = text(data.workflow_name) || run.workflowId;
      run.version = number(data.version) ?? 0;
      run.input = data.input ?? null;
      run.createdAt = timestamp;
      run.rerunOf = maybe(data.rerun_of);
      run.parent = data.parent ? text((data.parent as { [key: string]: Json }).execution_id) : null;
      break;
    case "execution:started":
      run.startedAt = text(data.started_at);
      run.etaMs = number(data.eta_ms);
      break;
    case "execution:paused":
      run.reason = text(data.reason);
      run.held = data.requested === true;
      run.pausedAt = timestamp;
      break;
    case "execution:resumed":
      run.held = false;
      run.pausedAt = null;
      break;
    default:
      if (!isEnded(run.status)) break;
      run.finishedAt = timestamp;
      run.durationMs = number(data.execution_time_ms);
      run.output = data.output ?? null;
      run.error = maybe(data.error_message);
      run.reason = text(data.reason);
      run.etaMs = null;
      if (run.status === "completed") run.progress = 100;
      for (const step of run.steps.values()) {
        if (!isSettled(step.status)) put(run, { ...step, status: "cancelled", wait: null });
      }
  }
}

function applyCommand(run: RunState, { data }: RunEvent): void {
  const step = run.steps.get(text(data.node_id));
  if (data.command === "resolve" && step) {
    put(run, { ...step, decidedBy: text(data.actor) || text(data.procedure) || "someone" });
  }
}

function put(run: RunState, step: Step): void {
  run.steps.set(step.id, step);
}

function applyStep(run: RunState, { type, data, timestamp }: RunEvent): void {
  const id = text(data.node_id);
  const before = run.steps.get(id) ?? pendingStep(id);
  const step: Step = {
    ...before,
    type: text(data.node_type) || before.type,
    name: text(data.name) || before.name,
    status: (maybe(data.status) as StepStatus | null) ?? before.status,
    attempt: number(data.attempt) ?? before.attempt,
  };
  put(run, { ...step, ...changeOf(type, data, timestamp, before) });
  if (type === "step:progress") {
    run.progress = number(data.progress) ?? run.progress;
    run.etaMs = number(data.eta_ms) ?? run.etaMs;
  }
}

function changeOf(
  type: string,
  data: RunEvent["data"],
  timestamp: string,
  before: Step,
): Partial<Step> {
  switch (type) {
    case "step:started":
      return {
        startedAt: text(data.started_at),
        completedAt: null,
        error: null,
        wait: null,
        retryAt: null,
        percent: null,
      };
    case "step:completed":
      return {
        startedAt: text(data.started_at) || before.startedAt,
        completedAt: text(data.completed_at),
        durationMs: number(data.duration_ms),
        output: data.output ?? null,
        error: null,
        wait: null,
        keptFrom: maybe(data.kept_from),
      };
    case "step:failed":
      return {
        startedAt: text(data.started_at) || before.startedAt,
        completedAt: text(data.completed_at),
        durationMs: number(data.duration_ms),
        error: text(data.error),
        errorDetail: text(data.error_detail),
        wait: null,
      };
    case "step:retrying":
      return {
        error: text(data.error),
        errorDetail: text(data.error_detail),
        retryAt: maybe(data.retry_at),
        wait: { kind: "retry", until: maybe(data.retry_at) },
      };
    case "step:expanded":
      return { items: Array.isArray(data.items) ? data.items.length : null };
    case "step:skipped":
      return { skipReason: text(data.reason), completedAt: timestamp };
    case "step:waiting":
      return {
        waitingSince: timestamp,
        wait: {
          kind: (maybe(data.wait) as WaitingFor["kind"] | null) ?? "time",
          reason: text(data.reason),
          until: maybe(data.until),
          triggers: (data.triggers as string[] | undefined) ?? [],
          form: (data.form as WaitingFor["form"]) ?? undefined,
          on_timeout: maybe(data.on_timeout),
          child_execution_id: maybe(data.child_execution_id),
        },
      };
    case "step:progress":
      return {
        status: before.status === "pending" ? "running" : before.status,
        percent: number(data.percent),
        message: text(data.message),
      };
    default:
      return { status: before.status };
  }
}
