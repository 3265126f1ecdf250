import { useState } from "react";
import { Only } from "../data/me.tsx";
import { useStatistics, useWorkflows } from "../data/queries.ts";
import { href } from "../router.tsx";
import { duration, percent } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Empty, Title } from "../ui/parts.tsx";
import { Listed, Table } from "../ui/tables.tsx";
import { StartButton } from "./starting.tsx";

export default function Workflows() {
  const [pages, setPages] = useState(1);
  const found = useWorkflows(pages);
  const stats = useStatistics();
  const of = new Map(stats.data?.workflows.map((each) => [each.workflow_id, each]));
  return (
    <div className="page">
      <Title
        aside={
          <Only scope="workflows:write">
            <a className="btn" href="#/workflows/new">
              <icons.Plus /> New workflow
            </a>
          </Only>
        }
      >
        Workflows
      </Title>
      <Listed
        found={found}
        count={(data) => data.workflows.length}
        rows={6}
        more={found.data?.hasMore && (() => setPages(pages + 1))}
        empty={
          <Empty title="No workflows yet" icon={<icons.Flow />}>
            <span>A workflow is a YAML file: nodes, what they need, and conditions.</span>
            <pre>tailrace apply workflow.yaml</pre>
          </Empty>
        }
      >
        {({ workflows }) => (
          <Table
            columns={[
              "Workflow",
              ["Version", "num hide-narrow"],
              ["Running", "num"],
              ["Succeeded, last hour", "num hide-narrow"],
              ["p50", "num hide-narrow"],
              ["p90", "num hide-narrow"],
              "",
            ]}
          >
            {workflows.map((workflow) => {
              const numbers = of.get(workflow.workflow_id);
              return (
                <tr key={workflow.workflow_id}>
                  <td className="clip">
                    <a className="cell" data-row="" href={href("workflows", workflow.workflow_id)}>
                      {workflow.name}
                    </a>{" "}
                    {workflow.name !== workflow.workflow_id ? (
                      <code className="muted hide-narrow">{workflow.workflow_id}</code>
                    ) : null}
                  </td>
                  <td className="num muted hide-narrow">{workflow.version}</td>
                  <td className="num">
                    {numbers?.active_runs ? (
                      <a href={`#/runs?workflow=${workflow.workflow_id}`}>{numbers.active_runs}</a>
                    ) : (
                      <span className="muted">0</span>
                    )}
                  </td>
                  <td className="num hide-narrow">{percent(numbers?.success_rate ?? null)}</td>
                  <td className="num muted hide-narrow">{duration(numbers?.run_latency.p50_ms)}</td>
                  <td className="num muted hide-narrow">{duration(numbers?.run_latency.p90_ms)}</td>
                  <td className="num">
                    <StartButton
                      workflow={workflow.workflow_id}
                      className=""
                      label={`Start ${workflow.name}`}
                    >
                      Start
                    </StartButton>
                  </td>
                </tr>
              );
            })}
          </Table>
        )}
      </Listed>
    </div>
  );
}
