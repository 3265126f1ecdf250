/** Fields of forms with their labels. */
import { type ReactNode, useId } from "react";
import type { WorkflowSummary } from "../data/types.ts";

interface FieldProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  hint?: string;
  isMono?: boolean;
  type?: "text" | "datetime-local";
}

export function Field({ label, value, onChange, hint, isMono, type }: FieldProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type={type}
        className={isMono ? "input mono" : "input"}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
      {hint ? <span className="hint">{hint}</span> : null}
    </div>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  children: ReactNode;
}

export function Choice({ label, value, onChange, children }: ChoiceProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <select
        id={id}
        className="select"
        value={value}
        onChange={(event) => onChange(event.target.value)}
      >
        {children}
      </select>
    </div>
  );
}

export function Workflows({ all }: { all: readonly WorkflowSummary[] | undefined }) {
  return all?.map((each) => (
    <option key={each.workflow_id} value={each.workflow_id}>
      {each.name}
    </option>
  ));
}
