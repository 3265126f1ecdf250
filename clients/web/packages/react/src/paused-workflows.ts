/** Workflows that wait for a decision, under the names of an earlier front end. */

export type { PausedWorkflow } from "@tailrace/client";
export { PausedWorkflows, type PausedWorkflowsProps } from "./components/PausedWorkflows.js";
export { type UsePausedWorkflowsOptions, usePausedWorkflows } from "./hooks/usePausedWorkflows.js";
