/**
 * Fold the events of an execution into its state, as the server does to answer requests.
 *
 * A status follows from the last event alone, and unknown events change nothing, so a page goes on
 * when the server is newer. States are never changed in place: any of them is a checkpoint.
 */

import type { Event, JsonValue, OutputRef } from "./generated.js";
import type { AcceptedCommand, ExecutionState, OpenWaiting, StepState } from "./types.js";

export const NEW_EXECUTION: ExecutionState = {
  execution_id: "",
  workflow_id: "",
  workflow_name: "",
  version: 0,
  status: "queued",
  input: null,
  output: null,
  output_omitted: false,
  error: null,
  created_at: null,
  started_at: null,
  finished_at: null,
  duration_ms: null,
  held: false,
  parent: null,
  rerun_of: null,
  from_node: null,
  failed_only: false,
  scheduled_at: null,
  schedule: null,
  tags: [],
  finishing: null,
  eta_ms: null,
  steps: new Map(),
  commands: new Map(),
  events: 0,
  updated_at: null,
};

/** The state of a step without events. */
export const newStep = (node_id: string): StepState => ({
  node_id,
  node_type: "",
  name: "",
  stage: null,
  status: "pending",
  attempt: 0,
  started_at: null,
  completed_at: null,
  duration_ms: null,
  output: null,
  output_bytes: null,
  error: null,
  error_detail: "",
  percent: null,
  message: "",
  waiting: null,
  items: null,
  kept_from: null,
  skipped_because: null,
});

const SETTLED = new Set(["success", "error", "skipped", "cancelled"]);

const isoTime = (text: string) => new Date(Date.parse(text)).toISOString();

/** Folds events into the state of their execution, as the server does. */
export class Fold {
  #state: { -readonly [K in keyof ExecutionState]: ExecutionState[K] };
  // Copied before the next change once a reader has seen them.
  #steps: Map<string, StepState>;
  #commands: Map<string, AcceptedCommand>;
  #seen: ExecutionState | null;

  /** Continue from a state, for example a checkpoint. */
  constructor(state: ExecutionState = NEW_EXECUTION) {
    this.#state = { ...state };
    this.#steps = new Map(state.steps);
    this.#commands = new Map(state.commands);
    this.#seen = null;
  }

  /** The state after the events so far; the same object until the next event. */
  get state(): ExecutionState {
    this.#seen ??= { ...this.#state, steps: this.#steps, commands: this.#commands };
    return this.#seen;
  }

  /** Apply the next event of the log. */
  apply(event: Event): void {
    if (this.#seen !== null) {
      this.#steps = new Map(this.#steps);
      this.#commands = new Map(this.#commands);
      this.#seen = null;
    }
    const state = this.#state;
    state.events += 1;
    state.updated_at = event.timestamp;
    switch (event.type) {
      case "execution:queued": {
        const { data } = event;
        state.execution_id = data.execution_id;
        state.workflow_id = data.workflow_id;
        state.workflow_name = data.workflow_name;
        state.version = data.version;
        state.input = data.input;
        state.parent = data.parent ?? null;
        state.rerun_of = data.rerun_of ?? null;
        state.from_node = data.from_node ?? null;
        state.failed_only = data.failed ?? false;
        state.scheduled_at = data.scheduled_at ?? null;
        state.schedule = data.schedule ?? null;
        state.tags = data.tags ?? [];
        state.created_at = event.timestamp;
        break;
      }
      case "execution:started":
        state.status = "running";
        state.started_at = event.timestamp;
        state.eta_ms = event.data.eta_ms ?? null;
        break;
      case "execution:paused":
        state.status = "paused";
        this.#applied("pause");
        break;
      case "execution:resumed":
        state.status = "running";
        this.#applied("resume");
        break;
      case "command:requested":
        this.#accept(event.data, event.timestamp);
        break;
      case "execution:finishing":
        state.finishing = event.data.group;
        state.held = false;
        this.#close(event.timestamp);
        break;
      case "execution:completed":
        state.status = "completed";
        state.output = event.data.output ?? null;
        state.output_omitted = event.data.output_omitted ?? false;
        this.#finish(event);
        break;
      case "execution:failed": {
        const { node_id, error_message } = event.data;
        const prefix = `${node_id}: `;
        state.status = "failed";
        // Workers of earlier versions put the step into the message.
        state.error =
          node_id == null || error_message.startsWith(prefix)
            ? error_message
            : prefix + error_message;
        this.#finish(event);
        break;
      }
      case "execution:cancelled":
        state.status = "cancelled";
        state.error = event.data.reason || null;
        this.#applied("cancel");
        this.#finish(event);
        break;
      default:
        if (event.type.startsWith("step:")) this.#step(event);
    }
  }

  #step(event: Extract<Event, { type: `step:${string}` }>): void {
    const { node_id, node_type } = event.data;
    const step = this.#steps.get(node_id) ?? newStep(node_id);
    const change = this.#changeOf(event, step);
    if (change === null) return;
    this.#steps.set(node_id, { ...step, node_type, ...change });
  }

  #changeOf(
    event: Extract<Event, { type: `step:${string}` }>,
    step: StepState,
  ): Partial<StepState> | null {
    switch (event.type) {
      case "step:started": {
        const { attempt, started_at, stage, name } = event.data;
        return {
          status: "running",
          attempt,
          started_at,
          stage: stage ?? null,
          name: name ?? "",
          error: null,
          error_detail: "",
          percent: null,
          message: "",
          waiting: null,
        };
      }
      case "step:waiting":
        return { status: "waiting", waiting: waitingOf(event) };
      case "step:expanded":
        return { status: "running", items: event.data.items.length };
      case "step:skipped":
        return { status: "skipped", skipped_because: event.data.reason };
      case "step:progress": {
        const { percent, message, eta_ms } = event.data;
        this.#state.eta_ms = eta_ms ?? this.#state.eta_ms;
        return { status: "running", percent, message: message ?? "" };
      }
      case "step:log":
        return { status: "running" };
      case "step:completed": {
        const { data } = event;
        this.#applied("resolve", step.node_id);
        return {
          status: "success",
          attempt: data.attempt,
          started_at: step.started_at ?? data.started_at,
          completed_at: data.completed_at,
          duration_ms: data.duration_ms,
          kept_from: data.kept_from ?? null,
          stage: data.stage ?? null,
          name: data.name || step.name,
          waiting: null,
          ...(data.output_omitted
            ? { output: this.#gathered(step) }
            : outputOf(data.output, data.output_ref)),
        };
      }
      case "step:failed": {
        const { data } = event;
        this.#applied("resolve", step.node_id);
        return {
          status: "error",
          stage: data.stage ?? null,
          completed_at: data.completed_at,
          duration_ms: data.duration_ms,
          error: data.error,
          error_detail: data.error_detail ?? "",
          waiting: null,
        };
      }
      case "step:retrying": {
        const { error, error_detail, retry_at } = event.data;
        const waiting = { ...NO_WAIT, kind: "retry", since: event.timestamp } as const;
        return {
          status: "retrying",
          error,
          error_detail: error_detail ?? "",
          waiting: { ...waiting, until: isoTime(retry_at) },
        };
      }
      default:
        return null;
    }
  }

  #accept(command: Extract<Event, { type: "command:requested" }>["data"], at: string): void {
    const { command_id, node_id } = command;
    this.#commands.set(command_id, {
      command_id,
      command: command.command,
      node_id: node_id ?? null,
      decision: command.decision ?? null,
      actor: command.actor ?? "",
      at,
      applied: false,
    });
    if (command.command === "pause") this.#state.held = true;
    if (command.command === "resume") this.#state.held = false;
    const step = command.command === "resolve" ? this.#steps.get(node_id ?? "") : undefined;
    if (step?.waiting)
      this.#steps.set(step.node_id, { ...step, waiting: { ...step.waiting, decided: true } });
  }

  #applied(command: AcceptedCommand["command"], node: string | null = null): void {
    for (const each of this.#commands.values())
      if (!each.applied && each.command === command && (node === null || each.node_id === node))
        this.#commands.set(each.command_id, { ...each, applied: true });
  }

  #finish(event: Event & { data: { execution_time_ms: number } }): void {
    const state = this.#state;
    state.finished_at = event.timestamp;
    state.duration_ms = event.data.execution_time_ms;
    state.held = false;
    state.eta_ms = 0;
    this.#close(event.timestamp);
  }

  /** Cancel the steps that have begun and not ended. */
  #close(timestamp: string): void {
    for (const step of this.#steps.values()) {
      if (SETTLED.has(step.status)) continue;
      const { started_at } = step;
      const duration_ms =
        started_at === null
          ? step.duration_ms
          : Math.max(0, Date.parse(timestamp) - Date.parse(started_at));
      this.#steps.set(step.node_id, {
        ...step,
        status: "cancelled",
        completed_at: timestamp,
        duration_ms,
        waiting: null,
      });
    }
  }

  /** The output of a map: the outputs or errors of its items; null if one is kept elsewhere. */
  #gathered(map: StepState): JsonValue {
    const outputs: JsonValue[] = [];
    for (let index = 0; index < (map.items ?? 0); index++) {
      const item = this.#steps.get(`${map.node_id}[${index}]`);
      if (item === undefined || item.output_bytes !== null) return null;
      outputs.push(item.status === "success" ? item.output : { error: item.error });
    }
    return outputs;
  }
}

const NO_WAIT: OpenWaiting = {
  kind: "time",
  since: "",
  until: null,
  reason: "",
  triggers: [],
  match: null,
  form: null,
  on_timeout: null,
  decided: false,
  child_execution_id: null,
  child_workflow_id: null,
};

function waitingOf({ data, timestamp }: Extract<Event, { type: "step:waiting" }>): OpenWaiting {
  const kind = data.wait ?? "time";
  return {
    kind,
    since: timestamp,
    until: data.until == null ? null : isoTime(data.until),
    reason: data.reason ?? "",
    triggers: data.triggers ?? [],
    match: data.match ?? null,
    form: data.form ?? null,
    on_timeout: kind === "signal" && data.until != null ? (data.on_timeout ?? "fail") : null,
    decided: false,
    child_execution_id: data.child_execution_id ?? null,
    child_workflow_id: data.child_workflow_id ?? null,
  };
}

function outputOf(output: JsonValue, ref: OutputRef | null | undefined): Partial<StepState> {
  return ref ? { output: null, output_bytes: ref.bytes } : { output, output_bytes: null };
}

/** Return the progress of an execution in percent: the share of its steps that have ended. */
export function progressOf(state: ExecutionState, nodes: number): number {
  if (state.status === "completed") return 100;
  const share = (step: StepState | undefined): number => {
    if (step === undefined) return 0;
    if (step.status === "success" || step.status === "error" || step.status === "skipped") return 1;
    if (step.status !== "running") return 0;
    if (!step.items) return Math.min(Math.max(step.percent ?? 0, 0), 100) / 100;
    let done = 0;
    for (let i = 0; i < step.items; i++) done += share(state.steps.get(`${step.node_id}[${i}]`));
    return done / step.items;
  };
  const steps = [...state.steps.values()].filter((step) => !step.node_id.includes("["));
  const done = steps.reduce((sum, step) => sum + share(step), 0);
  const total = Math.max(nodes, steps.length);
  return total ? Math.round((1000 * done) / total) / 10 : 0;
}
