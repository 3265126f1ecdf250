/** The status of pipelines, under the names of an earlier front end. */

export * from "./hooks/pipelineManager.js";
export * from "./hooks/usePipelines.js";
