import { useNames, useProblem, useStatistics } from "../data/queries.ts";
import type { Latency } from "../data/types.ts";
import { href } from "../router.tsx";
import { count, duration, percent } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Empty, Failure, Loading, Title } from "../ui/parts.tsx";
import { Table } from "../ui/tables.tsx";
import { Spark } from "./Spark.tsx";

export default function Performance() {
  const stats = useStatistics();
  const names = useNames(stats.data?.workflows);
  const problem = useProblem(stats);
  if (!stats.data) {
    return (
      <div className="page">
        <Title>Performance</Title>
        <div className="card">
          {problem ? (
            <Failure error={problem} retry={() => stats.refetch()} />
          ) : (
            <Loading rows={8} />
          )}
        </div>
      </div>
    );
  }
  const numbers = stats.data;
  const worst = Math.max(1, ...numbers.workflows.map((each) => each.run_latency.p90_ms ?? 0));
  const ended = numbers.ended.completed + numbers.ended.failed + numbers.ended.cancelled;
  return (
    <div className="page">
      <Title>Performance</Title>
      <div className="tiles">
        <div className="card tile">
          <span className="muted">Runs a minute, last hour</span>
          <b>{numbers.runs_per_minute.toFixed(1)}</b>
        </div>
        <div className="card tile">
          <span className="muted">Succeeded, last hour</span>
          <b>{percent(numbers.success_rate)}</b>
        </div>
        <div className="card tile">
          <span className="muted">Unfinished</span>
          <b>{numbers.active_runs}</b>
        </div>
        <div className="card tile">
          <span className="muted">Ended, in all</span>
          <b>{ended.toLocaleString("en")}</b>
        </div>
        <div className="card tile">
          <span className="muted">Open streams</span>
          <b>{numbers.connected_clients}</b>
        </div>
      </div>
      <section className="card">
        <h2>Runs that ended, by minute</h2>
        <div className="card-body">
          <Spark minutes={numbers.throughput} />
        </div>
      </section>
      <div className="halves">
        <Percentiles title="Runs, waits included" latency={numbers.run_latency} />
        <Percentiles title="Steps, without waits" latency={numbers.step_latency} />
      </div>
      <section className="card scroll-x">
        <h2>Workflows, the slowest first</h2>
        {numbers.workflows.length ? (
          <Table
            columns={[
              "Workflow",
              "p90",
              ["p50", "num"],
              ["p99", "num hide-narrow"],
              ["Completed", "num hide-narrow"],
              ["Failed", "num"],
            ]}
          >
            {[...numbers.workflows]
              .sort((a, b) => (b.run_latency.p90_ms ?? 0) - (a.run_latency.p90_ms ?? 0))
              .map((each) => (
                <tr key={each.workflow_id}>
                  <td className="clip">
                    <a
                      className="cell"
                      data-row=""
                      href={`${href("workflows", each.workflow_id)}?tab=nodes`}
                    >
                      {names.get(each.workflow_id) ?? each.workflow_id}
                    </a>
                  </td>
                  <td style={{ minWidth: 160 }}>
                    <span className="row tight">
                      <span className="bar" style={{ flex: 1 }}>
                        <i
                          style={{ width: `${((each.run_latency.p90_ms ?? 0) / worst) * 100}%` }}
                        />
                      </span>
                      <span className="muted nowrap" style={{ minWidth: 62 }}>
                        {duration(each.run_latency.p90_ms)}
                      </span>
                    </span>
                  </td>
                  <td className="num muted">{duration(each.run_latency.p50_ms)}</td>
                  <td className="num muted hide-narrow">{duration(each.run_latency.p99_ms)}</td>
                  <td className="num hide-narrow">{each.ended.completed.toLocaleString("en")}</td>
                  <td className="num">{each.ended.failed.toLocaleString("en")}</td>
                </tr>
              ))}
          </Table>
        ) : (
          <Empty title="No run has ended yet" icon={<icons.Chart />}>
            <span>Durations appear here as runs end.</span>
          </Empty>
        )}
      </section>
    </div>
  );
}

function Percentiles({ title, latency }: { title: string; latency: Latency }) {
  const rows: [string, number | null][] = [
    ["p50", latency.p50_ms],
    ["p90", latency.p90_ms],
    ["p95", latency.p95_ms],
    ["p99", latency.p99_ms],
  ];
  const most = Math.max(1, ...rows.map(([, value]) => value ?? 0));
  return (
    <section className="card">
      <h2>
        {title} <span className="grow" />{" "}
        <span className="muted small">{count(latency.count, "sample")}</span>
      </h2>
      <dl className="facts" style={{ gridTemplateColumns: "36px 1fr 72px", alignItems: "center" }}>
        {rows.map(([name, value]) => (
          <div key={name} style={{ display: "contents" }}>
            <dt>{name}</dt>
            <dd className="bar">
              <i style={{ width: `${((value ?? 0) / most) * 100}%` }} />
            </dd>
            <dd style={{ textAlign: "right" }}>{duration(value)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
