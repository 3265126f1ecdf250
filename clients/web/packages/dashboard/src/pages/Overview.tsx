import { useInbox } from "@tailrace/react";
import { client } from "../data/api.ts";
import { useRunList } from "../data/hooks.ts";
import { useNames, useProblem, useStatistics } from "../data/queries.ts";
import { useNow } from "../data/useStore.ts";
import { href } from "../router.tsx";
import { duration, percent, until } from "../ui/format.ts";
import { Empty, Failure, Loading, Title } from "../ui/parts.tsx";
import { gistOf } from "./gist.ts";
import { RunTable } from "./Runs.tsx";
import { Spark } from "./Spark.tsx";

export default function Overview() {
  const stats = useStatistics();
  const runs = useRunList({ limit: 12 });
  const failed = useRunList({ status: "failed", limit: 6 });
  const inbox = useInbox();
  const now = useNow();
  const names = useNames(runs.data?.runs);
  const numbers = stats.data;
  const problems = [useProblem(stats), useProblem(runs)];
  const problem = problems.find(Boolean);
  return (
    <div className="page">
      <Title>Overview</Title>
      {problem ? (
        <div className="card">
          <Failure error={problem} retry={() => client.refetchQueries()} />
        </div>
      ) : null}
      <div className="tiles">
        <a className="card tile" href="#/runs?status=running">
          <span className="muted">Unfinished runs</span>
          <b className={numbers?.active_runs ? "is-running" : ""}>{numbers?.active_runs ?? "–"}</b>
        </a>
        <a className="card tile" href="#/inbox">
          <span className="muted">Decisions to make</span>
          <b className={inbox.total ? "is-waiting" : ""}>{inbox.ready ? inbox.total : "–"}</b>
        </a>
        <a className="card tile" href="#/runs?status=failed">
          <span className="muted">Failed, last hour</span>
          <b className={numbers?.last_hour.failed ? "is-failed" : ""}>
            {numbers?.last_hour.failed ?? "–"}
          </b>
        </a>
        <a className="card tile" href="#/performance">
          <span className="muted">Succeeded, last hour</span>
          <b>{percent(numbers?.success_rate ?? null)}</b>
        </a>
        <a className="card tile" href="#/performance">
          <span className="muted">Runs, p50 and p90</span>
          <b>
            {duration(numbers?.run_latency.p50_ms)}{" "}
            {numbers?.run_latency.count ? (
              <small className="muted">{duration(numbers.run_latency.p90_ms)}</small>
            ) : null}
          </b>
        </a>
      </div>
      <div className="cols">
        <div className="stack">
          <section className="card scroll-x">
            <h2>
              Newest runs <span className="grow" /> <a href="#/runs">All runs</a>
            </h2>
            {runs.isPending && !problem ? <Loading rows={6} /> : null}
            {runs.isPending && problem ? <p className="none">Not known now.</p> : null}
            {runs.data?.runs.length ? (
              <RunTable runs={runs.data.runs} names={names} isShort />
            ) : null}
            {runs.data && !runs.data.runs.length ? (
              <Empty title="Start your first run">
                <span>Choose a workflow and fill in its form, or in a terminal:</span>
                <pre>tailrace run purchase-order --input @order.json --watch</pre>
                <a className="btn primary" href="#/workflows">
                  Workflows
                </a>
              </Empty>
            ) : null}
          </section>
        </div>
        <div className="stack">
          <section className="card">
            <h2>Runs that ended, last hour</h2>
            <div className="card-body">
              {numbers ? (
                <Spark minutes={numbers.throughput} />
              ) : problem ? (
                <span className="muted">Not known now.</span>
              ) : (
                <Loading rows={2} />
              )}
            </div>
          </section>
          <section className="card">
            <h2>
              Waiting for a decision <span className="grow" /> <a href="#/inbox">Inbox</a>
            </h2>
            <ul className="inbox-list">
              {inbox.entries.slice(0, 5).map((entry) => (
                <li key={entry.executionId + entry.pausedAt}>
                  <button
                    type="button"
                    onClick={() => {
                      location.hash = `#/inbox?entry=${entry.executionId}~${entry.pausedAt}`;
                    }}
                  >
                    <span className="strong clip">{gistOf(entry)}</span>
                    <span className="muted small clip">
                      {entry.reason || entry.pausedAt} · {entry.workflowName}
                    </span>
                    <span className="small due">
                      {entry.timeoutAt ? `decide ${until(entry.timeoutAt, now)}` : "no limit"}
                    </span>
                  </button>
                </li>
              ))}
            </ul>
            {inbox.ready && !inbox.entries.length ? <p className="none">Nothing waits.</p> : null}
          </section>
          <section className="card">
            <h2>Last failures</h2>
            {failed.data?.runs.length ? (
              <ul className="inbox-list">
                {failed.data.runs.map((run) => (
                  <li key={run.execution_id}>
                    <button
                      type="button"
                      onClick={() => {
                        location.hash = href("runs", run.execution_id);
                      }}
                    >
                      <span className="strong clip">
                        {names.get(run.workflow_id) ?? run.workflow_id}
                      </span>
                      <span className="clip small log-error">{run.error}</span>
                    </button>
                  </li>
                ))}
              </ul>
            ) : (
              <p className="none">{failed.data ? "No run has failed." : "Not known now."}</p>
            )}
          </section>
        </div>
      </div>
    </div>
  );
}
