/** The state of a run, as the client folds it, in the words of the pages. */
import { type ExecutionState, Fold, newStep, type StepState } from "@tailrace/client";
import type { Json } from "../data/types.ts";

export type RunState = ExecutionState;
export type Step = StepState;

export interface RunEvent {
  type: string;
  data: { [key: string]: Json };
  timestamp: string;
}

const ENDED = new Set(["completed", "failed", "cancelled"]);
const SETTLED = new Set(["success", "error", "skipped", "cancelled"]);

export const isEnded = ({ status }: RunState): boolean => ENDED.has(status);
export const isSettled = ({ status }: Step): boolean => SETTLED.has(status);
export const isItem = (step: Step): boolean => step.node_id.includes("[");

/** Return the node of a step: an item of a map belongs to the map. */
export const nodeOf = (id: string): string => id.replace(/\[\d+\]$/, "");

/** Return what people call a step; a name follows from the definition until the step has begun. */
export const titleOf = (step: Step): string =>
  isItem(step) ? step.node_id : step.name || step.node_id;

export const EMPTY_RUN: RunState = new Fold().state;

/** Return a step without events. */
export function pendingStep(id: string, type = "", name = ""): Step {
  return { ...newStep(id), node_type: type, name };
}

/** Return who decided a step, as the log has it; null before a decision. */
export function deciderOf(run: RunState, step: Step): string | null {
  const made = [...run.commands.values()].filter(
    (each) => each.command === "resolve" && each.node_id === step.node_id,
  );
  return made.length ? made[0]?.actor || "someone" : null;
}
