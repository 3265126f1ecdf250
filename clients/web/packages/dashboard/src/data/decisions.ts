/**
 * Decisions on waiting steps that this tab has made.
 *
 * Each is sent until the API answers, always with the same idempotency key: the log has it once,
 * however often it was sent. They outlive the forms that made them, and end with the tab.
 */

import { winnerOf } from "../run/winner.ts";
import { toast } from "../ui/parts.tsx";
import { newKey, Problem, post } from "./api.ts";
import { sessionHeaders } from "./session.ts";
import { Store } from "./store.ts";
import type { Json } from "./types.ts";
import { useSelected } from "./useStore.ts";

export type Choice = "approved" | "rejected";

export interface Decision {
  readonly choice: Choice;
  readonly data: Json;
  readonly key: string;
  /** Whose decision it is: a session that changes meanwhile must not sign it. */
  readonly access: Record<string, string>;
  /** The loop that sends it. One that was stopped has no say once another one sends. */
  readonly loop: symbol;
  /** `unanswered` is sent again by itself; `stopped` is not, but may have arrived. */
  readonly stage: "sending" | "unanswered" | "logged" | "refused" | "stopped";
  /** The id of the command in the log; empty until it is known. */
  readonly commandId: string;
  readonly error: unknown;
  /** What was first, if another decision was. */
  readonly winner: string;
}

const RETRY_MS = [1_000, 2_000, 5_000, 15_000];
const MAX_RETRY_MS = 30_000;

const decisions = new Store<ReadonlyMap<string, Decision>>(new Map());
const idOf = (execution: string, node: string) => `${execution}~${node}`;

const isUnderWay = (made: Decision | undefined): boolean =>
  made?.stage === "sending" || made?.stage === "unanswered";

addEventListener("beforeunload", (event) => {
  if ([...decisions.newest.values()].some(isUnderWay)) event.preventDefault();
});

export function useDecision(execution: string, node: string): Decision | undefined {
  return useSelected(decisions, (all) => all.get(idOf(execution, node)));
}

/** Decide a step. The same decision that failed before is the same request. */
export async function decide(
  execution: string,
  node: string,
  choice: Choice,
  data: Json,
): Promise<void> {
  const id = idOf(execution, node);
  const last = decisions.newest.get(id);
  if (isUnderWay(last)) return;
  const made = { choice, data, access: sessionHeaders() };
  const isSame = last && textOf(last) === textOf(made);
  const key = isSame ? last.key : newKey();
  const loop = Symbol();
  set(id, { ...made, key, loop, stage: "sending", commandId: "", error: null, winner: "" });
  for (let tried = 0; isUnderWay(of(id, loop)); tried++) {
    await send(execution, node, loop);
    if (of(id, loop)?.stage !== "unanswered") return;
    await untilRetry(navigator.onLine ? (RETRY_MS[tried] ?? MAX_RETRY_MS) : MAX_RETRY_MS);
  }
}

const textOf = ({ choice, data, access }: Pick<Decision, "choice" | "data" | "access">) =>
  JSON.stringify([choice, data, access]);

/** Send a decision no more that has no answer. */
export function stop(execution: string, node: string): void {
  const id = idOf(execution, node);
  const made = decisions.newest.get(id);
  if (made?.stage === "unanswered") set(id, { ...made, stage: "stopped" });
}

async function send(execution: string, node: string, loop: symbol): Promise<void> {
  const id = idOf(execution, node);
  const made = of(id, loop);
  if (!made) return;
  const { choice, data, key, access } = made;
  const change = (changed: Partial<Decision>) => {
    const newest = of(id, loop);
    if (newest) set(id, { ...newest, ...changed });
  };
  try {
    const body = { node_id: node, decision: choice, data };
    const path = `api/v1/executions/${execution}/resume`;
    const { command_id } = await post<{ command_id: string }>(path, body, key, access);
    change({ stage: "logged", commandId: command_id, error: null });
    toast(`${choice === "approved" ? "Approved" : "Rejected"} ${node}`, "success");
  } catch (error) {
    const { status } = error instanceof Problem ? error : { status: 0 };
    if (status === 0 || status >= 500) {
      if (of(id, loop)?.stage !== "stopped") change({ stage: "unanswered", error });
      return;
    }
    const winner = status === 409 ? await winnerOf(execution, node) : "";
    change({ stage: "refused", error, winner });
  }
}

/** Return the newest state of a decision, unless another loop sends in its place. */
function of(id: string, loop: symbol): Decision | undefined {
  const made = decisions.newest.get(id);
  return made?.loop === loop ? made : undefined;
}

function set(id: string, made: Decision): void {
  decisions.set(new Map(decisions.newest).set(id, made));
}

/** Wait for a time, or until the network is back. */
function untilRetry(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const stop = new AbortController();
    const wake = () => {
      stop.abort();
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    addEventListener("online", wake, { signal: stop.signal });
  });
}
