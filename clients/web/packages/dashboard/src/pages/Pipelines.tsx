import { usePipelines } from "@tailrace/react";
import { useMemo, useState } from "react";
import { useStatistics, useWorkflows } from "../data/queries.ts";
import { href } from "../router.tsx";
import { duration, percent } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Empty, Failure, Loading, Title } from "../ui/parts.tsx";
import { Pill } from "../ui/status.tsx";
import { More } from "../ui/tables.tsx";

export default function Pipelines() {
  const [pages, setPages] = useState(1);
  const workflows = useWorkflows(pages);
  const stats = useStatistics();
  const ids = useMemo(
    () => workflows.data?.workflows.map((each) => each.workflow_id) ?? [],
    [workflows.data],
  );
  const { statuses } = usePipelines(ids);
  const of = new Map(stats.data?.workflows.map((each) => [each.workflow_id, each]));
  return (
    <div className="page">
      <Title>Pipelines</Title>
      {workflows.isError ? (
        <div className="card">
          <Failure error={workflows.error} />
        </div>
      ) : null}
      {workflows.isPending ? <Loading /> : null}
      {workflows.data && !ids.length ? (
        <div className="card">
          <Empty title="No pipelines yet" icon={<icons.Pipe />}>
            <span>Each workflow is a pipeline; its status follows from its runs.</span>
            <pre>tailrace apply workflow.yaml</pre>
          </Empty>
        </div>
      ) : null}
      <ul
        className="tiles"
        style={{ gridTemplateColumns: "repeat(auto-fill, minmax(250px, 1fr))" }}
      >
        {workflows.data?.workflows.map((workflow) => {
          const numbers = of.get(workflow.workflow_id);
          const ended = numbers?.ended;
          return (
            <li key={workflow.workflow_id} className="card" data-pipeline={workflow.workflow_id}>
              <div className="card-head">
                <a
                  className="clip strong"
                  style={{ color: "inherit" }}
                  href={href("workflows", workflow.workflow_id)}
                >
                  {workflow.name}
                </a>
                <span className="grow" />
                <Pill status={statuses.get(workflow.workflow_id) ?? "idle"} />
              </div>
              <dl className="facts numbers">
                <dt>Unfinished</dt>
                <dd>{numbers?.active_runs ?? 0}</dd>
                <dt>Completed, failed</dt>
                <dd>
                  {ended?.completed ?? 0}, {ended?.failed ?? 0}
                </dd>
                <dt>Succeeded, last hour</dt>
                <dd>{percent(numbers?.success_rate ?? null)}</dd>
                <dt>p50</dt>
                <dd>{duration(numbers?.run_latency.p50_ms)}</dd>
              </dl>
            </li>
          );
        })}
      </ul>
      {workflows.data?.hasMore ? <More show={() => setPages(pages + 1)} /> : null}
    </div>
  );
}
