/** What the pages read of the API's documents. */
import type { Routes, ExecutionStatus as RunStatus, StepStatus } from "@tailrace/client";

export type { PausedWorkflow as PausedEntry } from "@tailrace/client";
export type { RunStatus, StepStatus };

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Schema = { [key: string]: Json };

/** The caller: what its token allows. Null stands for everything. */
export type Me = Routes["GET /api/v1/me"]["answer"];

export interface RunSummary {
  execution_id: string;
  workflow_id: string;
  version: number;
  status: RunStatus;
  created_at: string | null;
  started_at: string | null;
  finished_at: string | null;
  duration_ms: number | null;
  error: string | null;
  parent?: string | null;
  rerun_of?: string | null;
  waits?: number;
}

export interface WaitingFor {
  kind: "time" | "signal" | "child" | "actor" | "retry";
  reason?: string;
  until?: string | null;
  on_timeout?: string | null;
  triggers?: string[];
  form?: Schema;
  decided?: boolean;
  child_execution_id?: string | null;
}

export interface StepDocument {
  node_id: string;
  node_type: string;
  name: string;
  status: StepStatus;
  attempt: number;
  started_at: string | null;
  completed_at: string | null;
  duration_ms: number | null;
  output: Json;
  error: string | null;
  waiting_for: WaitingFor | null;
  kept_from?: string;
}

export interface RunDocument extends RunSummary {
  input: Json;
  output: Json;
  progress: number;
  eta_ms: number | null;
  steps: StepDocument[];
  logs?: { id: string; type: string; data: Json; timestamp: string }[];
}

export interface WorkflowSummary {
  workflow_id: string;
  version: number;
  name: string;
}

export interface NodeType {
  type: string;
  summary: string;
  /** The schema of the parameters. */
  parameters: Schema;
}

export interface NodeDefinition {
  type: string;
  name?: string;
  needs?: string[];
  with?: { [key: string]: Json };
  when?: string;
  timeout?: string;
  stage?: string;
}

export interface Definition {
  id: string;
  name?: string;
  description?: string;
  input?: Schema;
  nodes: Record<string, NodeDefinition>;
}

export interface WorkflowDocument extends WorkflowSummary {
  definition: Definition;
}

export type { Version } from "@tailrace/client";

export interface GraphDocument {
  nodes: { id: string; type: string; name: string; stage: string | null }[];
  edges: { source: string; target: string }[];
  layers: string[][];
}

export interface Latency {
  count: number;
  p50_ms: number | null;
  p90_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
}

export interface Counts {
  completed: number;
  failed: number;
  cancelled: number;
}

export interface WorkflowStatistics {
  workflow_id: string;
  active_runs: number;
  ended: Counts;
  last_hour: Counts;
  success_rate: number | null;
  run_latency: Latency;
  step_latency: Latency;
}

export interface TenantStatistics extends Omit<WorkflowStatistics, "workflow_id"> {
  merchantId: string;
  connected_clients: number;
  replicas: number;
  runs_per_minute: number;
  throughput: (Counts & { at: string })[];
  workflows: WorkflowStatistics[];
}

export interface NodeStatistics {
  node_id: string;
  node_type: string;
  succeeded: number;
  failed: number;
  retries: number;
  skipped: number;
  latency: Latency;
  items?: Latency;
}

export interface WorkflowDetails extends WorkflowStatistics {
  throughput: (Counts & { at: string })[];
  nodes: NodeStatistics[];
}

export interface Schedule {
  id: string;
  workflow_id: string;
  cron: string;
  time_zone: string | null;
  input: Json;
  created_at: string;
  next_at: string | null;
}

export interface DeadLetter {
  id: number;
  queue: string;
  actor: string | null;
  message_id: string | null;
  reason: string;
  error: string;
  deliveries: number;
  died_at: string;
}

export interface DeadLetterDocument extends DeadLetter {
  traceback: string;
  headers: Record<string, string>;
  message: Json;
}
