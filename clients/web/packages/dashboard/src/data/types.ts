/** What the pages read of the API's documents: names for types that are generated from its structs. */
import type {
  GraphDocument as Drawn,
  NodeTypeDocument,
  ExecutionStatus as RunStatus,
  ScheduleDocument,
  StepStatus,
} from "@tailrace/client";

export type {
  Again,
  BackfillAnswer,
  DeadLetterDocument,
  DeadLetterList,
  DeadLetterSummary as DeadLetter,
  Definition,
  Latency,
  Me,
  NodeStatistics,
  PausedWorkflow as PausedEntry,
  Rerun,
  RunDocument,
  RunList,
  RunSummary,
  ScheduleList,
  StepDetails,
  StepDocument,
  TenantStatistics,
  Version,
  VersionList,
  WorkflowDetails,
  WorkflowDocument,
  WorkflowList,
  WorkflowSummary,
} from "@tailrace/client";
export type { RunStatus, StepStatus };

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Schema = { [key: string]: Json };
export type NodeType = Pick<NodeTypeDocument, "type" | "summary" | "parameters">;
export type GraphDocument = Pick<Drawn, "nodes" | "edges" | "layers">;
export type Schedule = ScheduleDocument;
