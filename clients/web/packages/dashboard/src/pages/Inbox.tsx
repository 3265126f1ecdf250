import { useInbox } from "@tailrace/react";
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { get } from "../data/api.ts";
import { Only } from "../data/me.tsx";
import type { PausedEntry, RunDocument } from "../data/types.ts";
import { useNow } from "../data/useStore.ts";
import { go, href, usePlace, withQuery } from "../router.tsx";
import { DecisionForm, NoDecision } from "../run/DecisionForm.tsx";
import { count, duration, until } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { JsonView } from "../ui/json.tsx";
import { Ago, Empty, Loading, Title } from "../ui/parts.tsx";
import { Pill } from "../ui/status.tsx";
import { gistOf } from "./gist.ts";

const keyOf = (entry: PausedEntry) => `${entry.executionId}~${entry.pausedAt}`;

export default function Inbox() {
  const { ready, entries, total } = useInbox();
  const { query } = usePlace();
  const key = query.get("entry");
  // What is shown stays until another entry is chosen. One that arrives must not take its place
  // under the hand that decides, and one that was decided shows its receipt.
  const [kept, setKept] = useState<PausedEntry | null>(null);
  const keptKey = kept && keyOf(kept);
  const wanted = key ?? keptKey;
  const entryOf = (each: string | null) => entries.find((entry) => keyOf(entry) === each);
  const rest = wanted === keptKey ? kept : entryOf(keptKey);
  const chosen = entryOf(wanted) ?? rest ?? entries[0] ?? null;
  useEffect(() => setKept(chosen), [chosen]);
  const choose = (entry: PausedEntry) => go(withQuery({ entry: keyOf(entry) }), true);
  return (
    <div className="page">
      <Title>
        Inbox{" "}
        {ready ? (
          <span className="muted">{total ? `· ${count(total, "decision")}` : ""}</span>
        ) : null}
      </Title>
      {!ready ? (
        <div className="card">
          <Loading />
        </div>
      ) : null}
      {ready && !chosen ? (
        <div className="card">
          <Empty title="Nothing waits for a decision" icon={<icons.InboxIcon />}>
            <span>A node of type await puts a run here until a person or a trigger decides:</span>
            <pre>
              {"approve: {type: await, needs: [totals], with: {reason: approval}, timeout: 24h}"}
            </pre>
          </Empty>
        </div>
      ) : null}
      {chosen ? (
        <div className="inbox">
          <ul className="card inbox-list" aria-label="Waiting steps" style={{ overflow: "hidden" }}>
            {entries.map((entry) => (
              <Entry
                key={keyOf(entry)}
                entry={entry}
                isChosen={keyOf(entry) === keyOf(chosen)}
                choose={() => choose(entry)}
              />
            ))}
            {entries.length === 0 ? (
              <li>
                <Empty title="All decided" />
              </li>
            ) : null}
          </ul>
          <Detail
            key={keyOf(chosen)}
            entry={chosen}
            isOver={!entries.some((entry) => keyOf(entry) === keyOf(chosen))}
          />
        </div>
      ) : null}
    </div>
  );
}

function Entry(props: { entry: PausedEntry; isChosen: boolean; choose: () => void }) {
  const { entry, isChosen, choose } = props;
  const now = useNow();
  return (
    <li data-entry={keyOf(entry)}>
      <button
        type="button"
        data-row=""
        aria-current={isChosen ? "true" : undefined}
        onClick={choose}
      >
        <span className="row tight">
          <span className="strong clip">{gistOf(entry)}</span>
          <span className="grow" />
          <span className="muted small">
            <Ago at={entry.pausedTime} />
          </span>
        </span>
        <span className="clip muted">
          {entry.reason || entry.pausedAt} · {entry.workflowName}
        </span>
        <span className="small due">
          {entry.timeoutAt ? `decide ${until(entry.timeoutAt, now)}` : "no limit"}
        </span>
      </button>
    </li>
  );
}

function Detail({ entry, isOver }: { entry: PausedEntry; isOver: boolean }) {
  const now = useNow();
  const run = useQuery({
    queryKey: ["run", entry.executionId],
    queryFn: () => get<RunDocument>(`api/v1/executions/${entry.executionId}`),
  });
  const step = run.data?.steps.find((each) => each.node_id === entry.pausedAt);
  const done = run.data?.steps.filter(
    (each) => each.status === "success" && !each.node_id.includes("["),
  );
  return (
    <article className="card" aria-label={`Decision ${entry.pausedAt}`}>
      <div className="card-head wrap">
        <h2>{gistOf(entry)}</h2>
        <Pill status={isOver ? "completed" : "waiting"}>{isOver ? "Decided" : "Waiting"}</Pill>
        <span className="grow" />
        <a
          className="btn"
          href={`${href("runs", entry.executionId)}?step=${encodeURIComponent(entry.pausedAt)}`}
        >
          Open the run
        </a>
      </div>
      <dl className="facts">
        <dt>Reason</dt>
        <dd>{entry.reason || "a decision"}</dd>
        <dt>Workflow</dt>
        <dd>{entry.workflowName}</dd>
        <dt>Step</dt>
        <dd>
          {step?.name ?? entry.pausedAt} <code className="muted">{entry.pausedAt}</code>
        </dd>
        <dt>Waits for</dt>
        <dd>
          {duration(now - Date.parse(entry.pausedTime))}
          {entry.timeoutAt ? (
            <span className="muted">
              {" "}
              · times out {until(entry.timeoutAt, now)}
              {step?.waiting_for?.on_timeout ? `, then ${step.waiting_for.on_timeout}` : ""}
            </span>
          ) : null}
        </dd>
        {entry.waitingFor.length ? (
          <>
            <dt>Or trigger</dt>
            <dd>
              <code>{entry.waitingFor.join(", ")}</code>
            </dd>
          </>
        ) : null}
      </dl>
      <div className="card-body" style={{ borderTop: "1px solid var(--line)" }}>
        {run.isPending ? (
          <Loading rows={3} />
        ) : (
          <Only scope="executions:write" others={<NoDecision />}>
            <DecisionForm
              executionId={entry.executionId}
              nodeId={entry.pausedAt}
              schema={step?.waiting_for?.form}
              isOver={isOver}
            />
          </Only>
        )}
      </div>
      <h2 className="card-head" style={{ borderTop: "1px solid var(--line)" }}>
        What it is about
      </h2>
      <JsonView value={entry.variables} label="Input of the run" />
      {done?.map((each) => (
        <details key={each.node_id} style={{ borderTop: "1px solid var(--line)" }}>
          <summary className="card-head" style={{ border: 0, cursor: "pointer" }}>
            Output of {each.name}
          </summary>
          <JsonView value={each.output} label={`Output of ${each.name}`} />
        </details>
      ))}
    </article>
  );
}
