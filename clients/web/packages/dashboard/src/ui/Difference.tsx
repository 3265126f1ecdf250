import { useMemo } from "react";
import { differences, shortened } from "../run/diff.ts";

/** The lines in which two values differ, with those around them. */
export function Difference(props: { title: string; first: unknown; second: unknown }) {
  const [one, two] = [props.first, props.second].map(
    (value) => JSON.stringify(value, null, 2) ?? "",
  );
  const lines = useMemo(() => differences(one ?? "", two ?? ""), [one, two]);
  return (
    <>
      {props.title ? <h2 className="card-head over">{props.title}</h2> : null}
      {one === two ? <p className="none">Both are equal.</p> : null}
      {lines === null ? <p className="none">Too long to compare here.</p> : null}
      {lines && one !== two ? (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by keys
        <pre className="diff" tabIndex={0}>
          {shortened(lines).map((line, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: lines have no other identity
            <span key={index} className={line?.side ?? "gap"}>
              {line ? `${SIGNS[line.side]} ${line.text}` : "…"}
            </span>
          ))}
        </pre>
      ) : null}
    </>
  );
}

const SIGNS = { both: " ", first: "−", second: "+" };
