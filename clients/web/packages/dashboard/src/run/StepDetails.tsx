/** What the log has of a step beyond its state: its input, its attempts and its log lines. */
import { useQuery } from "@tanstack/react-query";
import { Fragment, type ReactNode } from "react";
import { every, get } from "../data/api.ts";
import { useProblem } from "../data/queries.ts";
import type { StepDetails as Details } from "../data/types.ts";
import { clock, count, duration } from "../ui/format.ts";
import { JsonView } from "../ui/json.tsx";
import { Failure } from "../ui/parts.tsx";
import { isSettled, type RunState, type Step } from "./fold.ts";

/** Lines that are shown; the logs of the run have all. */
const MAX_LINES = 200;

interface Props {
  run: RunState;
  step: Step;
  isLive: boolean;
}

export function StepDetails({ run, step, isLive }: Props) {
  const hasBegun = step.status !== "pending" && run.execution_id !== "";
  const path = `api/v1/executions/${run.execution_id}/steps/${encodeURIComponent(step.node_id)}`;
  const found = useQuery({
    queryKey: ["step", run.execution_id, step.node_id, step.status, step.attempt],
    queryFn: () => get<Details>(path),
    enabled: hasBegun,
    staleTime: isSettled(step) ? Number.POSITIVE_INFINITY : 0,
    refetchInterval: isSettled(step) ? false : every(3_000),
    placeholderData: (before) => (before?.node_id === step.node_id ? before : undefined),
  });
  const problem = useProblem(found);
  if (!hasBegun) return null;
  if (problem) return <Failure error={problem} retry={() => found.refetch()} />;
  if (!found.data) return null;
  const { input, input_problem, attempts, lines } = found.data;
  const when = isLive ? "" : ", as of now";
  return (
    <>
      {input_problem || input !== null ? (
        <Section title={`Input${when}`}>
          {input_problem ? (
            <p className="card-body muted">{input_problem}</p>
          ) : (
            <JsonView value={input} label="Input" />
          )}
        </Section>
      ) : null}
      {attempts.length ? (
        <Section title={`${count(attempts.length, "attempt")}${when}`}>
          <Attempts attempts={attempts} />
        </Section>
      ) : null}
      {lines.length ? (
        <Section title={`${count(lines.length, "log line")}${when}`}>
          <Lines lines={lines} />
        </Section>
      ) : null}
    </>
  );
}

export function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <>
      <h2 className="card-head" style={{ borderTop: "1px solid var(--line)" }}>
        {title}
      </h2>
      {children}
    </>
  );
}

function Attempts({ attempts }: Pick<Details, "attempts">) {
  return (
    <ol className="attempts" aria-label="Attempts">
      {attempts.map((each) => {
        const took = each.ended_at ? Date.parse(each.ended_at) - Date.parse(each.started_at) : null;
        return (
          // A crash does not count as an attempt, so two may have one number.
          <li key={each.started_at}>
            <b>{each.attempt}</b> {clock(each.started_at, true)}
            <span className="muted">
              {took === null ? "" : ` · ${duration(took)}`}
              {each.cause ? ` · ${each.cause}` : ""}
            </span>
            {each.worker ? (
              <div className="muted clip" title={each.worker}>
                worker <code>{each.worker}</code>
              </div>
            ) : null}
            {each.error ? <div className="log-error">{each.error}</div> : null}
          </li>
        );
      })}
    </ol>
  );
}

function Lines({ lines }: Pick<Details, "lines">) {
  const shown = lines.slice(-MAX_LINES);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by keys
    <section className="step-lines" aria-label="Log lines" tabIndex={0}>
      {shown.length < lines.length ? (
        <p className="muted">The newest {shown.length} lines; the tab Logs has all.</p>
      ) : null}
      <dl>
        {shown.map((line, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: lines have no id and are never moved
          <Fragment key={index}>
            <dt className="muted">{clock(line.timestamp, true)}</dt>
            <dd className={`log-${line.level}`}>
              {line.message}
              {Object.keys(line.fields).length ? (
                <span className="muted"> {JSON.stringify(line.fields)}</span>
              ) : null}
            </dd>
          </Fragment>
        ))}
      </dl>
    </section>
  );
}
