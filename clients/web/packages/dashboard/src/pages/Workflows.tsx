import { useState } from "react";
import { useStatistics, useWorkflows } from "../data/queries.ts";
import { href } from "../router.tsx";
import { duration, percent } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Empty, Failure, Loading, Title } from "../ui/parts.tsx";
import { StartSheet } from "./starting.tsx";

export default function Workflows() {
  const found = useWorkflows();
  const stats = useStatistics();
  const [starting, setStarting] = useState<string | null>(null);
  const of = new Map(stats.data?.workflows.map((each) => [each.workflow_id, each]));
  return (
    <div className="page">
      <Title
        aside={
          <a className="btn" href="#/workflows/new">
            <icons.Plus /> New workflow
          </a>
        }
      >
        Workflows
      </Title>
      <div className="card scroll-x">
        {found.isError ? <Failure error={found.error} retry={() => found.refetch()} /> : null}
        {found.isPending ? <Loading rows={6} /> : null}
        {found.data && !found.data.workflows.length ? (
          <Empty title="No workflows yet" icon={<icons.Flow />}>
            <span>A workflow is a YAML file: nodes, what they need, and conditions.</span>
            <pre>tailrace apply workflow.yaml</pre>
          </Empty>
        ) : null}
        {found.data?.workflows.length ? (
          <table className="table">
            <thead>
              <tr>
                <th scope="col">Workflow</th>
                <th scope="col" className="num hide-narrow">
                  Version
                </th>
                <th scope="col" className="num">
                  Running
                </th>
                <th scope="col" className="num hide-narrow">
                  Succeeded, last hour
                </th>
                <th scope="col" className="num hide-narrow">
                  p50
                </th>
                <th scope="col" className="num hide-narrow">
                  p90
                </th>
                <th scope="col">
                  <span className="visually-hidden">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {found.data.workflows.map((workflow) => {
                const numbers = of.get(workflow.workflow_id);
                return (
                  <tr key={workflow.workflow_id}>
                    <td className="clip">
                      <a
                        className="cell"
                        data-row=""
                        href={href("workflows", workflow.workflow_id)}
                      >
                        {workflow.name}
                      </a>{" "}
                      {workflow.name !== workflow.workflow_id ? (
                        <code className="muted hide-narrow">{workflow.workflow_id}</code>
                      ) : null}
                    </td>
                    <td className="num muted hide-narrow">{workflow.version}</td>
                    <td className="num">
                      {numbers?.active_runs ? (
                        <a href={`#/runs?workflow=${workflow.workflow_id}`}>
                          {numbers.active_runs}
                        </a>
                      ) : (
                        <span className="muted">0</span>
                      )}
                    </td>
                    <td className="num hide-narrow">{percent(numbers?.success_rate ?? null)}</td>
                    <td className="num muted hide-narrow">
                      {duration(numbers?.run_latency.p50_ms)}
                    </td>
                    <td className="num muted hide-narrow">
                      {duration(numbers?.run_latency.p90_ms)}
                    </td>
                    <td className="num">
                      <button
                        type="button"
                        className="btn"
                        aria-label={`Start ${workflow.name}`}
                        onClick={() => setStarting(workflow.workflow_id)}
                      >
                        <icons.Play /> Start
                      </button>
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        ) : null}
      </div>
      {starting ? <StartSheet workflow={starting} onClose={() => setStarting(null)} /> : null}
    </div>
  );
}
