import { lazy, type ReactNode, Suspense, useState } from "react";
import type { Json, Schema } from "../data/types.ts";
import { Loading } from "./parts.tsx";

const SchemaForm = lazy(() => import("./SchemaForm.tsx"));

interface Props {
  id: string;
  schema: Schema | null | undefined;
  value: Json;
  onChange: (value: Json) => void;
  onSubmit: (value: Json) => void;
  refused?: { pointer: string; detail: string }[];
  children: ReactNode;
}

/** Ask for a value: by a form where there is a schema, else as JSON. */
export function ValueForm(props: Props) {
  const hasFields = props.schema?.properties || props.schema?.type === "array";
  const [isRaw, setRaw] = useState(!hasFields);
  return (
    <div className="stack">
      {hasFields ? (
        <span className="chips" style={{ justifySelf: "start" }}>
          <button
            type="button"
            className="btn quiet"
            aria-pressed={!isRaw}
            onClick={() => setRaw(false)}
          >
            Form
          </button>
          <button
            type="button"
            className="btn quiet"
            aria-pressed={isRaw}
            onClick={() => setRaw(true)}
          >
            JSON
          </button>
        </span>
      ) : null}
      {isRaw || !props.schema ? (
        <RawForm {...props} />
      ) : (
        <Suspense fallback={<Loading rows={3} />}>
          <SchemaForm {...props} schema={props.schema} />
        </Suspense>
      )}
    </div>
  );
}

function RawForm({ id, value, onChange, onSubmit, children }: Props) {
  const [text, setText] = useState(() => JSON.stringify(value ?? {}, null, 2));
  const [error, setError] = useState("");
  const change = (next: string) => {
    setText(next);
    try {
      onChange(JSON.parse(next) as Json);
      setError("");
    } catch (failure) {
      setError((failure as Error).message);
    }
  };
  return (
    <form
      className="stack"
      onSubmit={(event) => {
        event.preventDefault();
        if (!error) onSubmit(JSON.parse(text || "{}") as Json);
      }}
    >
      <div className="field">
        <label htmlFor={`${id}-raw`}>Value in JSON</label>
        <textarea
          id={`${id}-raw`}
          className="area"
          rows={8}
          spellCheck={false}
          value={text}
          aria-invalid={Boolean(error)}
          onChange={(event) => change(event.target.value)}
        />
        {error ? <span className="hint log-error">{error}</span> : null}
      </div>
      {children}
    </form>
  );
}
