/** A definition with the API's problems at their place. */
import { useEffect, useMemo, useRef, useState } from "react";
import { call, client, Problem, post } from "../data/api.ts";
import { Only } from "../data/me.tsx";
import { useNodeTypes } from "../data/queries.ts";
import CodeArea, { type CodeHandle } from "../editor/CodeArea.tsx";
import { type Fault, lineOf, parsed, textOf } from "../editor/source.ts";
import { go, href } from "../router.tsx";
import { count } from "../ui/format.ts";
import { Failure, toast } from "../ui/parts.tsx";
import { StatusWord } from "../ui/status.tsx";

/** After this long without a key the API is asked what is wrong. */
const PAUSE_MS = 500;

interface Props {
  /** The workflow that gets another version; null for a new one. */
  id: string | null;
  initial: unknown;
}

/** What the API said about a text. */
interface Verdict {
  text: string;
  faults: Fault[];
  /** Why the API did not answer with problems. */
  failure: unknown;
}

async function verdictOf(text: string, refuse?: () => Promise<void>): Promise<Verdict> {
  const source = parsed(text);
  if (source.faults.length) return { text, faults: source.faults, failure: null };
  try {
    await (refuse ? refuse() : post("api/v1/workflows/validate", source.value));
    return { text, faults: [], failure: null };
  } catch (failure) {
    if (!(failure instanceof Problem && failure.errors.length))
      return { text, faults: [], failure };
    const faults = failure.errors.map(({ pointer, detail }) => ({
      ...source.find(pointer),
      message: pointer ? `${pointer}: ${detail}` : detail,
    }));
    return { text, faults, failure: null };
  }
}

export default function Editor({ id, initial }: Props) {
  const first = useMemo(() => textOf(initial), [initial]);
  const [text, setText] = useState(first);
  const [verdict, setVerdict] = useState<Verdict | null>(null);
  const types = useNodeTypes();
  const area = useRef<CodeHandle>(null);
  const newest = useRef(text);
  newest.current = text;
  const judge = async (refuse?: () => Promise<void>) => {
    const found = await verdictOf(text, refuse);
    // The answer to an earlier text is not shown.
    if (found.text === newest.current) setVerdict(found);
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: each text is judged once
  useEffect(() => {
    const timer = setTimeout(() => void judge(), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const store = () =>
    judge(async () => {
      const body = parsed(text).value as { id?: string } | null;
      const target = id ?? body?.id ?? "";
      const made = await call<{ version: number }>("PUT", `api/v1/workflows/${target}`, body);
      toast(`Version ${made.version} is stored`, "success");
      await client.invalidateQueries();
      go(href("workflows", target));
    });
  const isJudged = verdict?.text === text;
  const faults = verdict?.faults ?? [];
  const hasSide = faults.length > 0 || Boolean(verdict?.failure);
  return (
    <div className={`run-body ${hasSide ? "" : "alone"}`}>
      <div className="card panel">
        <div className="card-head wrap">
          <button type="button" className="btn" onClick={() => judge()}>
            Check
          </button>
          <Only scope="workflows:write">
            <button
              type="button"
              className="btn primary"
              onClick={store}
              disabled={text === first && id !== null}
            >
              Store a new version
            </button>
          </Only>
          <span className="grow" />
          <span role="status" className="muted">
            {!isJudged ? (
              "…"
            ) : faults.length ? (
              <span className="log-error">{count(faults.length, "problem")}</span>
            ) : verdict.failure ? null : (
              <StatusWord status="success">Valid</StatusWord>
            )}
          </span>
        </div>
        <CodeArea
          ref={area}
          initial={first}
          label="Definition in YAML or JSON"
          faults={faults}
          types={types}
          onChange={setText}
        />
      </div>
      {hasSide ? (
        <aside className="card side" aria-label="Problems">
          <h2>Problems</h2>
          {verdict?.failure ? <Failure error={verdict.failure} /> : null}
          <ul className="inbox-list">
            {faults.map(({ from, to, message }) => {
              const { line, column } = lineOf(verdict?.text ?? "", from);
              return (
                <li key={`${from} ${message}`}>
                  <button type="button" onClick={() => area.current?.reveal(from, to)}>
                    <span className="small log-error">
                      line {line}, column {column}
                    </span>
                    <span>{message}</span>
                  </button>
                </li>
              );
            })}
          </ul>
        </aside>
      ) : null}
    </div>
  );
}
