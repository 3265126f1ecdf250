import { useState } from "react";
import { Problem, post } from "../data/api.ts";
import { useWorkflow, useWorkflows } from "../data/queries.ts";
import type { Json } from "../data/types.ts";
import { go, href } from "../router.tsx";
import { Empty, Failure, Loading, Sheet } from "../ui/parts.tsx";
import { ValueForm } from "../ui/ValueForm.tsx";

const FORM_KEY = (id: string) => `tailrace.input.${id}`;

/** Start a run of a workflow, with a form from the schema of its input. */
export function StartSheet({ workflow, onClose }: { workflow: string; onClose: () => void }) {
  const all = useWorkflows();
  const [id, setId] = useState(workflow);
  const chosen = id || (all.data?.workflows[0]?.workflow_id ?? "");
  return (
    <Sheet title="Start a run" onClose={onClose}>
      {all.isError ? <Failure error={all.error} /> : null}
      {all.data?.workflows.length === 0 ? (
        <Empty title="No workflows yet">
          <pre>tailrace apply workflow.yaml</pre>
        </Empty>
      ) : (
        <div className="field">
          <label htmlFor="workflow">Workflow</label>
          <select
            id="workflow"
            className="select"
            value={chosen}
            onChange={(event) => setId(event.target.value)}
          >
            {all.data?.workflows.map((each) => (
              <option key={each.workflow_id} value={each.workflow_id}>
                {each.name}
              </option>
            ))}
          </select>
        </div>
      )}
      {chosen ? <StartForm key={chosen} id={chosen} onClose={onClose} /> : null}
    </Sheet>
  );
}

function StartForm({ id, onClose }: { id: string; onClose: () => void }) {
  const found = useWorkflow(id);
  // The last input of a workflow is offered again, because people repeat runs.
  const [value, setValue] = useState<Json>(() =>
    JSON.parse(sessionStorage.getItem(FORM_KEY(id)) ?? "{}"),
  );
  const [error, setError] = useState<unknown>(null);
  const [isSent, setSent] = useState(false);
  const start = async (input: Json) => {
    setError(null);
    setSent(true);
    sessionStorage.setItem(FORM_KEY(id), JSON.stringify(input));
    try {
      const made = await post<{ execution_id: string }>(`api/v1/workflows/${id}/runs`, { input });
      onClose();
      go(href("runs", made.execution_id));
    } catch (failure) {
      setError(failure);
    } finally {
      setSent(false);
    }
  };
  if (!found.data) return <Loading rows={3} />;
  const { description, input } = found.data.definition;
  const refused = error instanceof Problem ? error.errors : [];
  return (
    <>
      {description ? <p className="muted">{description}</p> : null}
      {error ? <Failure error={error} /> : null}
      <ValueForm
        id="input"
        schema={input}
        value={value}
        onChange={setValue}
        onSubmit={start}
        refused={refused
          .filter(({ pointer }) => pointer.startsWith("/input"))
          .map(({ pointer, detail }) => ({ pointer: pointer.slice(6), detail }))}
      >
        <div className="row tight">
          <button type="submit" className="btn primary" disabled={isSent}>
            Start the run
          </button>
        </div>
      </ValueForm>
    </>
  );
}
