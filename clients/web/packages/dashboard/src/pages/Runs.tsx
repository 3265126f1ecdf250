import { useState } from "react";
import { useRunList } from "../data/hooks.ts";
import { useNames, useProblem, useWorkflows } from "../data/queries.ts";
import { filterOf, isFiltered, RECENT, type RunFilter } from "../data/runFilter.ts";
import type { RunSummary } from "../data/types.ts";
import { useNow } from "../data/useStore.ts";
import { go, href, Link, usePlace, withQuery } from "../router.tsx";
import { Workflows } from "../ui/fields.tsx";
import { count, duration, localOf, timeOf } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Ago, Empty, Failure, Loading, Title } from "../ui/parts.tsx";
import { StatusWord, wordOf } from "../ui/status.tsx";
import { Table } from "../ui/tables.tsx";
import { StartButton } from "./starting.tsx";

const STATUSES = ["", "running", "queued", "paused", "completed", "failed", "cancelled"];

export default function Runs() {
  const { query } = usePlace();
  const workflows = useWorkflows();
  const filter = filterOf(query);
  const found = useRunList(filter);
  const names = useNames(found.data?.runs);
  const problem = useProblem(found);
  const runs = found.data?.runs ?? [];
  return (
    <div className="page">
      <Title aside={<StartButton workflow={filter.workflow ?? ""}>Start a run</StartButton>}>
        Runs
      </Title>
      <div className="filters">
        <nav className="chips" aria-label="Status">
          {STATUSES.map((status) => (
            <Link
              key={status}
              href={withQuery({ status, cursor: "" })}
              current={status === (filter.status ?? "")}
            >
              {status ? wordOf(status) : "All"}
            </Link>
          ))}
        </nav>
        <select
          className="select"
          aria-label="Workflow"
          value={filter.workflow ?? ""}
          onChange={(event) => go(withQuery({ workflow: event.target.value, cursor: "" }))}
        >
          <option value="">All workflows</option>
          <Workflows all={workflows.data?.workflows} />
        </select>
        <CreatedIn filter={filter} />
        <TagField key={filter.tag} tag={filter.tag ?? ""} />
        {filter.q ? (
          <a
            className="btn"
            href={withQuery({ q: "", cursor: "" })}
            aria-label={`Not only “${filter.q}”`}
          >
            “{filter.q}” <icons.Close />
          </a>
        ) : null}
        {filter.parent ? (
          <a
            className="btn"
            href={withQuery({ parent: "", cursor: "" })}
            aria-label="Not only the child runs of this run"
          >
            children of <code>{filter.parent.slice(0, 8)}</code> <icons.Close />
          </a>
        ) : null}
      </div>
      <div className="card scroll-x">
        {problem ? <Failure error={problem} retry={() => found.refetch()} /> : null}
        {found.isPending && !problem ? <Loading rows={8} /> : null}
        {found.data && !runs.length ? (
          found.data.cursor ? (
            <Empty title="No run of this page matches">
              <a href={withQuery({ cursor: found.data.cursor })}>Search older runs</a>
            </Empty>
          ) : isFiltered(filter) ? (
            <Empty title="No run matches">
              <a href="#/runs">Show all</a>
            </Empty>
          ) : (
            <Empty title="No runs yet" icon={<icons.Play />}>
              <span>Start one here, by a schedule, or in a terminal:</span>
              <pre>tailrace run purchase-order --input @order.json --watch</pre>
            </Empty>
          )
        ) : null}
        {runs.length ? <RunTable runs={runs} names={names} /> : null}
      </div>
      {filter.cursor || found.data?.cursor ? (
        <div className="row tight">
          {filter.cursor ? (
            <a className="btn" href={withQuery({ cursor: "" })}>
              Newest
            </a>
          ) : null}
          {found.data?.cursor ? (
            <a className="btn" href={withQuery({ cursor: found.data.cursor })}>
              Older runs
            </a>
          ) : null}
        </div>
      ) : null}
    </div>
  );
}

/** Choose when the runs were created: a range up to now, or one between two times. */
function CreatedIn({ filter }: { filter: RunFilter }) {
  const hasTimes = Boolean(filter.created_after || filter.created_before);
  const [isOpen, setOpen] = useState(false);
  const isBetween = hasTimes || isOpen;
  const none = { within: "", created_after: "", created_before: "", cursor: "" };
  const choose = (value: string) => {
    setOpen(value === "between");
    go(
      withQuery(value === "between" ? { ...none, ...timesOf(filter) } : { ...none, within: value }),
    );
  };
  const edges = [
    ["created_after", "Created from"],
    ["created_before", "Created before"],
  ] as const;
  return (
    <>
      <select
        className="select"
        aria-label="Created"
        value={isBetween ? "between" : (filter.within ?? "")}
        onChange={(event) => choose(event.target.value)}
      >
        <option value="">At any time</option>
        {Object.entries(RECENT).map(([name, [title]]) => (
          <option key={name} value={name}>
            In {title}
          </option>
        ))}
        <option value="between">Between…</option>
      </select>
      {isBetween
        ? edges.map(([field, label]) => (
            <input
              key={field}
              type="datetime-local"
              className="input"
              aria-label={label}
              value={localOf(filter[field])}
              onChange={(event) =>
                go(withQuery({ [field]: timeOf(event.target.value), within: "", cursor: "" }), true)
              }
            />
          ))
        : null}
    </>
  );
}

const timesOf = ({ created_after = "", created_before = "" }: RunFilter) => ({
  created_after,
  created_before,
});

function TagField({ tag }: { tag: string }) {
  const [text, setText] = useState(tag);
  const search = () => {
    if (text.trim() !== tag) go(withQuery({ tag: text.trim(), cursor: "" }));
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        search();
      }}
    >
      <input
        className="input"
        aria-label="Tag"
        placeholder="Tag"
        size={12}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onBlur={search}
      />
    </form>
  );
}

const COLUMNS = [
  "Status",
  "Workflow",
  ["Run", "hide-narrow"],
  "Started",
  ["Took", "num hide-narrow"],
] as const;

interface TableProps {
  runs: readonly RunSummary[];
  names: ReadonlyMap<string, string>;
  isShort?: boolean;
}

export function RunTable({ runs, names, isShort }: TableProps) {
  return (
    <Table columns={isShort ? COLUMNS : [...COLUMNS, ["Why", "hide-narrow"]]}>
      {runs.map((run) => (
        <tr key={run.execution_id} data-run={run.execution_id}>
          <td>
            <StatusWord status={run.status} />
          </td>
          <td className="clip name">
            <a className="cell" data-row="" href={href("runs", run.execution_id)}>
              {names.get(run.workflow_id) ?? run.workflow_id}
            </a>
          </td>
          <td className="hide-narrow nowrap">
            <code className="muted">{run.execution_id.slice(0, 18)}</code>
          </td>
          <td className="muted">
            <Ago at={run.started_at ?? run.created_at} />
          </td>
          <td className="num muted nowrap hide-narrow">
            <Took run={run} />
          </td>
          {isShort ? null : (
            <td className="clip fill hide-narrow" title={run.error ?? undefined}>
              <Why run={run} />
            </td>
          )}
        </tr>
      ))}
    </Table>
  );
}

function Why({ run }: { run: RunSummary }) {
  if (run.error) return <span className="log-error">{run.error}</span>;
  if (run.waits)
    return <a href={href("runs", run.execution_id)}>waits for {count(run.waits, "decision")}</a>;
  return run.rerun_of ? <span className="muted">rerun</span> : null;
}

function Took({ run }: { run: RunSummary }) {
  const now = useNow();
  if (run.finished_at) return duration(run.duration_ms);
  return run.started_at ? duration(now - Date.parse(run.started_at)) : "–";
}
