import { useState } from "react";
import { Problem, post } from "../data/api.ts";
import { useProblem, useVersions, useWorkflow } from "../data/queries.ts";
import type { GraphDocument, Json, Rerun } from "../data/types.ts";
import { go, href } from "../router.tsx";
import { Choice } from "../ui/fields.tsx";
import { count } from "../ui/format.ts";
import { Command, Failure, Loading, Sheet } from "../ui/parts.tsx";
import { ValueForm } from "../ui/ValueForm.tsx";
import { nodeOf, type RunState } from "./fold.ts";
import { bodyOf, type Choices, failedItemsOf, keptBy } from "./rerun.ts";

interface Props {
  run: RunState;
  graph: GraphDocument | null;
  onClose: () => void;
}

const AT = "at:";
/** Names of steps that are listed on each side. */
const LISTED = 12;

/** Choose what of a run runs again, of which version and with which input. */
export function RerunSheet({ run, graph, onClose }: Props) {
  const failed = [...run.steps.values()].find((step) => step.status === "error");
  const items = failedItemsOf(run);
  const [start, setStart] = useState(failed ? AT + nodeOf(failed.node_id) : "");
  const [version, setVersion] = useState("");
  const [input, setInput] = useState<Json | undefined>(undefined);
  const [error, setError] = useState<unknown>(null);
  const versions = useVersions(run.workflow_id).data?.versions ?? [];
  const nodes = graph?.layers.flat() ?? [];
  const from: Choices["from"] = start.startsWith(AT)
    ? { step: start.slice(AT.length) }
    : start === "failed"
      ? "failed"
      : "";
  const kept = new Set(graph ? keptBy(from, graph, run) : []);
  const rerun = async (other: Json | undefined) => {
    const made = await post<Rerun>(
      `api/v1/executions/${run.execution_id}/rerun`,
      bodyOf({ from, version, input: other }),
    );
    onClose();
    go(href("runs", made.execution_id));
  };
  const names = new Map(graph?.nodes.map((node) => [node.id, node.name]));
  const list = (title: string, ids: string[]) => (
    <div>
      <h3>{title}</h3>
      <ul className="muted">
        {ids.slice(0, LISTED).map((id) => (
          <li key={id}>{names.get(id) || id}</li>
        ))}
      </ul>
    </div>
  );
  const isOther = input !== undefined;
  return (
    <Sheet
      title="Run again"
      onClose={onClose}
      foot={
        <>
          <button type="button" className="btn" onClick={onClose}>
            Close
          </button>
          {isOther ? null : (
            <Command run={() => rerun(undefined)} done="The rerun has begun" className="primary">
              Run again
            </Command>
          )}
        </>
      }
    >
      <Choice label="Run again" value={start} onChange={setStart}>
        <option value="">all steps</option>
        {run.status === "completed" && !items.length ? null : (
          <option value="failed">only what has not succeeded</option>
        )}
        <optgroup label="from a step on">
          {nodes.map((id) => (
            <option key={id} value={AT + id}>
              {names.get(id) || id}
            </option>
          ))}
        </optgroup>
        {items.length ? (
          <optgroup label="one item of a map">
            {items.map((id) => (
              <option key={id} value={AT + id}>
                {id}
              </option>
            ))}
          </optgroup>
        ) : null}
      </Choice>
      <Choice label="Version" value={version} onChange={setVersion}>
        <option value="">the same: {run.version}</option>
        <option value="latest">the newest{versions[0] ? `: ${versions[0].version}` : ""}</option>
        {versions
          .filter((each) => each.version !== run.version)
          .map((each) => (
            <option key={each.version} value={String(each.version)}>
              {each.version}
            </option>
          ))}
      </Choice>
      <label className="check">
        <input
          type="checkbox"
          checked={isOther}
          onChange={(event) =>
            setInput(event.target.checked ? ((run.input ?? {}) as Json) : undefined)
          }
        />
        With another input
      </label>
      <p className="hint">
        {count(kept.size, "step")} {kept.size === 1 ? "is" : "are"} kept with the output of this
        run; {count(nodes.length - kept.size, "step")} run again
        {version || isOther
          ? ", and also those that the version or the input changes, with all that depends on them"
          : ""}
        .
      </p>
      <div className="halves">
        {list(
          "Runs again",
          nodes.filter((id) => !kept.has(id)),
        )}
        {list("Kept", [...kept])}
      </div>
      {error ? <Failure error={error} /> : null}
      {isOther ? (
        <OtherInput
          run={run}
          version={version}
          value={input}
          error={error}
          onChange={setInput}
          onSubmit={(value) => {
            setError(null);
            rerun(value).catch(setError);
          }}
        />
      ) : null}
    </Sheet>
  );
}

interface OtherInputProps {
  run: RunState;
  version: string;
  value: Json;
  error: unknown;
  onChange: (value: Json) => void;
  onSubmit: (value: Json) => void;
}

/** The form of an input, from the schema of the version that runs. */
function OtherInput({ run, version, error, ...form }: OtherInputProps) {
  const chosen = version === "latest" ? undefined : version || String(run.version);
  const found = useWorkflow(run.workflow_id, chosen);
  const problem = useProblem(found);
  if (problem) return <Failure error={problem} retry={() => found.refetch()} />;
  if (!found.data) return <Loading rows={3} />;
  const refused = error instanceof Problem ? error.errors : [];
  return (
    <ValueForm
      key={version}
      id="rerun"
      schema={found.data.definition.input}
      refused={refused
        .filter(({ pointer }) => pointer.startsWith("/input"))
        .map(({ pointer, detail }) => ({ pointer: pointer.slice(6), detail }))}
      {...form}
    >
      <div className="row tight">
        <button type="submit" className="btn primary">
          Run again with this input
        </button>
      </div>
    </ValueForm>
  );
}
