/** Run a flow and show its nodes as they go, under the names of an earlier front end. */

export { ExecutionBoundary, type ExecutionBoundaryProps } from "./components/ExecutionBoundary.js";
export * from "./hooks/useFlowExecution.js";
