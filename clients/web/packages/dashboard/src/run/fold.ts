/** The state of a run, as the client folds it, in the words of the pages. */
import { type ExecutionState, Fold, newStep, type StepState } from "@tailrace/client";
import type { GraphDocument, Json } from "../data/types.ts";

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

const idle = new WeakMap<GraphDocument["nodes"][number], Step>();

/** Return the step of a node before its first event: the same object each time. */
function idleStep(node: GraphDocument["nodes"][number]): Step {
  const known = idle.get(node) ?? pendingStep(node.id, node.type, node.name);
  idle.set(node, known);
  return known;
}

/** Return who decided a step, as the log has it; null before a decision. */
export function deciderOf(run: RunState, step: Step): string | null {
  const made = [...run.commands.values()].filter(
    (each) => each.command === "resolve" && each.node_id === step.node_id,
  );
  return made.length ? made[0]?.actor || "someone" : null;
}

/** All steps in the order of the definition, the items of a map after their map. */
export function listed(graph: GraphDocument | null, run: RunState): Step[] {
  const found: Step[] = [];
  const shown = new Set<string>();
  const nodes = new Map(graph?.nodes.map((node) => [node.id, node]));
  for (const id of graph?.layers.flat() ?? []) {
    const node = nodes.get(id);
    const own = run.steps.get(id) ?? (node ? idleStep(node) : pendingStep(id));
    for (const each of [own, ...itemsOf(own, run)]) {
      found.push(each);
      shown.add(each.node_id);
    }
  }
  for (const step of run.steps.values()) if (!shown.has(step.node_id)) found.push(step);
  return found;
}

function itemsOf(step: Step, run: RunState): Step[] {
  return Array.from({ length: step.items ?? 0 }, (_, index) => {
    const id = `${step.node_id}[${index}]`;
    return run.steps.get(id) ?? pendingStep(id, "", id);
  });
}
