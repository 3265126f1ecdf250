import { useQuery } from "@tanstack/react-query";
import { get } from "../data/api.ts";
import { useDecision } from "../data/decisions.ts";
import { Only } from "../data/me.tsx";
import type { Definition, NodeStatistics, RunDocument } from "../data/types.ts";
import { useNow } from "../data/useStore.ts";
import { href } from "../router.tsx";
import { clock, duration, until } from "../ui/format.ts";
import { JsonView } from "../ui/json.tsx";
import { Side } from "../ui/parts.tsx";
import { Pill } from "../ui/status.tsx";
import { DecisionForm, NoDecision } from "./DecisionForm.tsx";
import { deciderOf, isSettled, nodeOf, type RunState, type Step, titleOf } from "./fold.ts";
import { Section, StepDetails } from "./StepDetails.tsx";

interface Props {
  run: RunState;
  step: Step;
  definition: Definition | undefined;
  usual: ReadonlyMap<string, NodeStatistics>;
  isLive: boolean;
  onClose: () => void;
}

export function StepPanel({ run, step, definition, usual, isLive, onClose }: Props) {
  const nodeId = nodeOf(step.node_id);
  const node = definition?.nodes[nodeId];
  const decider = deciderOf(run, step);
  const latency = usual.get(nodeId)?.latency;
  const made = useDecision(run.execution_id, step.node_id);
  const isWaiting = step.status === "waiting" && step.waiting?.kind === "signal";
  return (
    <Side
      label={`Step ${step.node_id}`}
      title={
        <>
          <h2 className="clip">{titleOf(step)}</h2>
          <Pill status={step.status} />
        </>
      }
      close="Close the step"
      onClose={onClose}
    >
      <dl className="facts">
        <dt>Id</dt>
        <dd>
          <code>{step.node_id}</code>
        </dd>
        <dt>Type</dt>
        <dd>
          <code>{step.node_type || node?.type}</code>
          {step.attempt > 0 ? ` · attempt ${step.attempt}` : ""}
        </dd>
        {node?.needs?.length ? (
          <>
            <dt>Needs</dt>
            <dd>{node.needs.join(", ")}</dd>
          </>
        ) : null}
        {node?.when ? (
          <>
            <dt>When</dt>
            <dd>
              <code>{node.when}</code>
            </dd>
          </>
        ) : null}
        {step.started_at ? (
          <>
            <dt>Started</dt>
            <dd>{clock(step.started_at, true)}</dd>
          </>
        ) : null}
        <Took step={step} latency={latency} />
        {decider ? (
          <>
            <dt>Decided by</dt>
            <dd>{decider}</dd>
          </>
        ) : null}
        {step.kept_from ? (
          <>
            <dt>Kept from</dt>
            <dd>
              <a href={href("runs", step.kept_from)}>{step.kept_from.slice(0, 18)}</a>
            </dd>
          </>
        ) : null}
        {step.skipped_because ? (
          <>
            <dt>Skipped</dt>
            <dd>
              {step.skipped_because === "when"
                ? "its condition was false"
                : "a need did not succeed"}
            </dd>
          </>
        ) : null}
        {step.waiting?.child_execution_id ? (
          <>
            <dt>Child run</dt>
            <dd>
              <a href={href("runs", step.waiting.child_execution_id)}>
                {step.waiting.child_execution_id.slice(0, 18)}
              </a>{" "}
              · <a href={`#/runs?parent=${run.execution_id}`}>all</a>
            </dd>
          </>
        ) : null}
      </dl>
      {isLive && (isWaiting || made) ? (
        <Section title="Decide">
          <div className="card-body">
            <Only scope="executions:write" others={<NoDecision />}>
              <DecisionForm
                key={run.execution_id + step.node_id}
                executionId={run.execution_id}
                nodeId={step.node_id}
                schema={step.waiting?.form}
                isOver={!isWaiting}
                run={run}
              />
            </Only>
          </div>
        </Section>
      ) : null}
      {step.error ? (
        <Section title={step.status === "retrying" ? "Last error" : "Error"}>
          <JsonView value={step.error_detail || step.error} label="Error" />
        </Section>
      ) : null}
      {step.message && !isSettled(step) ? (
        <Section title={`Progress ${Math.round(step.percent ?? 0)} %`}>
          <div className="card-body stack is-running">
            <div className="bar">
              <i style={{ width: `${step.percent ?? 0}%` }} />
            </div>
            <span>{step.message}</span>
          </div>
        </Section>
      ) : null}
      {step.status === "success" ? <Output run={run} step={step} /> : null}
      <StepDetails run={run} step={step} isLive={isLive} />
      {node ? (
        <Section title="Definition">
          <JsonView value={node.with ?? {}} label="Parameters" />
        </Section>
      ) : null}
    </Side>
  );
}

function Took({ step, latency }: { step: Step; latency: NodeStatistics["latency"] | undefined }) {
  const now = useNow();
  if (!step.started_at) return null;
  const since = step.status === "waiting" ? step.waiting?.since : step.started_at;
  const took = isSettled(step) ? step.duration_ms : now - Date.parse(since ?? "");
  return (
    <>
      <dt>{isSettled(step) ? "Took" : step.status === "waiting" ? "Waits for" : "Runs for"}</dt>
      <dd>
        {duration(took)}{" "}
        {latency?.count ? (
          <span className="muted">
            (p50 {duration(latency.p50_ms)}, p90 {duration(latency.p90_ms)})
          </span>
        ) : null}
      </dd>
      {step.waiting?.until && !isSettled(step) ? (
        <>
          <dt>Until</dt>
          <dd>
            {until(step.waiting.until, now)}
            {step.waiting.on_timeout ? `, then ${step.waiting.on_timeout}` : ""}
          </dd>
        </>
      ) : null}
    </>
  );
}

/** The output as the log has it; a larger one is read from the API. */
function Output({ run, step }: { run: RunState; step: Step }) {
  const isElsewhere = step.output === null;
  const path = `api/v1/executions/${run.execution_id}/steps/${encodeURIComponent(step.node_id)}/output`;
  const read = useQuery({
    queryKey: ["output", run.execution_id, step.node_id],
    queryFn: () => get<RunDocument["output"]>(path),
    enabled: isElsewhere && Boolean(run.execution_id),
    staleTime: Number.POSITIVE_INFINITY,
  });
  return (
    <Section title="Output">
      <JsonView value={isElsewhere ? (read.data ?? null) : step.output} label="Output" />
    </Section>
  );
}
