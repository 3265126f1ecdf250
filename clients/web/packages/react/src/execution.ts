/** The events of one execution, under the names of an earlier front end. */

export * from "./hooks/useExecutionEvents.js";
