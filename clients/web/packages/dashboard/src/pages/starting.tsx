import { type ReactNode, useState } from "react";
import { Problem, post } from "../data/api.ts";
import { keepInput, keptInput } from "../data/inputs.ts";
import { Only } from "../data/me.tsx";
import { useProblem, useWorkflow, useWorkflows } from "../data/queries.ts";
import type { Json } from "../data/types.ts";
import { go, href } from "../router.tsx";
import { Choice, Workflows } from "../ui/fields.tsx";
import * as icons from "../ui/icons.tsx";
import { Empty, Failure, Loading, Sheet } from "../ui/parts.tsx";
import { ValueForm } from "../ui/ValueForm.tsx";

/** A button that opens the form below; others than writers of executions do not see it. */
export function StartButton({ workflow, className = "primary", label, children }: StartProps) {
  const [isOpen, setOpen] = useState(false);
  return (
    <Only scope="executions:write">
      <button
        type="button"
        className={`btn ${className}`}
        aria-label={label}
        onClick={() => setOpen(true)}
      >
        <icons.Play /> {children}
      </button>
      {isOpen ? <StartSheet workflow={workflow} onClose={() => setOpen(false)} /> : null}
    </Only>
  );
}

interface StartProps {
  workflow: string;
  className?: string;
  label?: string;
  children: ReactNode;
}

/** Start a run of a workflow, with a form from the schema of its input. */
function StartSheet({ workflow, onClose }: { workflow: string; onClose: () => void }) {
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
        <Choice label="Workflow" value={chosen} onChange={setId}>
          <Workflows all={all.data?.workflows} />
        </Choice>
      )}
      {chosen ? <StartForm key={chosen} id={chosen} onClose={onClose} /> : null}
    </Sheet>
  );
}

function StartForm({ id, onClose }: { id: string; onClose: () => void }) {
  const found = useWorkflow(id);
  const [value, setValue] = useState<Json>(() => keptInput(id));
  const [error, setError] = useState<unknown>(null);
  const [isSent, setSent] = useState(false);
  const start = async (input: Json) => {
    setError(null);
    setSent(true);
    keepInput(id, found.data?.definition.input, input);
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
  const problem = useProblem(found);
  if (problem) return <Failure error={problem} retry={() => found.refetch()} />;
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
