import type { RunView, StepStatus, TailraceClient } from "@tailrace/client";
import {
  type Dispatch,
  type SetStateAction,
  useCallback,
  useEffect,
  useRef,
  useState,
} from "react";
import { useClient } from "../context.js";

/** A node of an editor's graph; its status is in its data. */
export interface FlowNode {
  readonly id: string;
  readonly data?: object;
}

export type NodeStatus = "idle" | "running" | "success" | "error" | "skipped";

type SetNodes<N> = Dispatch<SetStateAction<N[]>>;
type Toast = (message: string, kind: "success" | "error") => void;

export interface FlowOptions {
  /** Called with a sentence when a run ends, or cannot be started. */
  readonly onToast?: Toast;
}

const STATUS: Readonly<Record<StepStatus, NodeStatus>> = {
  pending: "idle",
  running: "running",
  waiting: "running",
  retrying: "running",
  success: "success",
  error: "error",
  skipped: "skipped",
  cancelled: "idle",
};

const ENDED = {
  completed: ["Workflow executed successfully!", "success"],
  failed: ["Workflow failed", "error"],
  cancelled: ["Workflow was cancelled", "error"],
} as const;
const GONE = ["The run does not exist", "error"] as const;

/**
 * Run flows, and set `data.status` of their nodes: `idle`, `running`, then `success`. Several runs
 * may go on at once; the newest one is controlled and reported.
 */
export function useExecutionStream<N extends FlowNode>(
  nodes: readonly N[],
  setNodes: SetNodes<N>,
  { onToast }: FlowOptions = {},
) {
  const client = useClient();
  const toast = useLatest(onToast);
  const [error, setError] = useState<string | null>(null);
  const report = useCallback(
    (message: string, kind: "success" | "error", detail = message) => {
      if (kind === "error") setError(detail);
      toast.current?.(message, kind);
    },
    [toast],
  );
  const { newest, follow } = useFollowedRuns(client, setNodes, report);
  const updateNodeStatus = useCallback(
    (nodeId: string, status: NodeStatus) =>
      setNodes((all) => withStatus(all, { [nodeId]: status })),
    [setNodes],
  );
  const execute = useCallback(
    async (flowId: string | number, inputData: unknown = {}) => {
      setError(null);
      setNodes((all) => withStatus(all, Object.fromEntries(all.map(({ id }) => [id, "idle"]))));
      try {
        const id = await start(client, flowId, inputData);
        follow(id);
        return id;
      } catch (failure) {
        report((failure as Error).message, "error");
        return null;
      }
    },
    [client, follow, report, setNodes],
  );
  return {
    ...{ execute, error, updateNodeStatus },
    ...useControls(client, newest?.id),
    ...summaryOf(newest, nodes.length),
  };
}

async function start(client: TailraceClient, flow: string | number, input: unknown) {
  const path = { workflow_id: flow };
  const route = "POST /api/v1/workflows/{workflow_id}/runs";
  return (await client.request(route, { path, body: { input } })).execution_id;
}

interface Followed {
  readonly id: string;
  readonly view: RunView;
}

function summaryOf(run: Followed | null, nodes: number) {
  const steps = [...(run?.view.state?.steps.values() ?? [])];
  const ended = steps.filter((step) => step.completed_at !== null || step.status === "skipped");
  return {
    executionId: run?.id ?? null,
    isExecuting: run?.view.phase === "loading" || run?.view.phase === "live",
    isPaused: run?.view.state?.status === "paused",
    /** 0 to 100. */
    progress: nodes ? Math.min(100, Math.round((100 * ended.length) / nodes)) : 0,
  };
}

/** Follow runs until they end, or the component goes. */
function useFollowedRuns<N extends FlowNode>(
  client: TailraceClient,
  setNodes: SetNodes<N>,
  report: (message: string, kind: "success" | "error", detail?: string) => void,
) {
  const [newest, setNewest] = useState<Followed | null>(null);
  const stops = useRef(new Set<() => void>());
  useEffect(
    () => () => {
      for (const stop of stops.current) stop();
    },
    [],
  );
  const follow = useCallback(
    (id: string) => {
      const store = client.run(id);
      setNewest({ id, view: store.initial() });
      const show = () => {
        const view = store.get();
        const steps = [...(view.state?.steps.values() ?? [])];
        const statuses = steps.map((step) => [step.node_id, STATUS[step.status]] as const);
        setNodes((all) => withStatus(all, Object.fromEntries(statuses)));
        setNewest((known) => (known?.id === id ? { id, view } : known));
        if (view.phase !== "ended" && view.phase !== "missing") return;
        stop();
        stops.current.delete(stop);
        const [message, kind] = ENDED[view.state?.status as keyof typeof ENDED] ?? GONE;
        report(message, kind, view.state?.error ?? view.error ?? message);
      };
      const stop = store.subscribe(show);
      stops.current.add(stop);
    },
    [client, report, setNodes],
  );
  return { newest, follow };
}

function useControls(client: TailraceClient, id: string | undefined) {
  const send = useCallback(
    async (command: "pause" | "resume" | "cancel") => {
      if (id === undefined) return;
      const path = { execution_id: id };
      await client.request(`POST /api/v1/executions/{execution_id}/${command}`, { path });
    },
    [client, id],
  );
  return {
    pause: useCallback(() => send("pause"), [send]),
    resume: useCallback(() => send("resume"), [send]),
    cancel: useCallback(() => send("cancel"), [send]),
  };
}

function useLatest<T>(value: T) {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}

/** Return nodes with other statuses: the same objects where nothing changes. */
function withStatus<N extends FlowNode>(
  nodes: N[],
  statuses: Readonly<Record<string, NodeStatus | string>>,
): N[] {
  const statusOf = (node: N) => (node.data as { status?: string } | undefined)?.status;
  const isChanged = (node: N) => node.id in statuses && statuses[node.id] !== statusOf(node);
  if (!nodes.some(isChanged)) return nodes;
  return nodes.map((node) =>
    isChanged(node) ? { ...node, data: { ...node.data, status: statuses[node.id] } } : node,
  );
}
