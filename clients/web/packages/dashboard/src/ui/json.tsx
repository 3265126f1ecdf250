import { type ReactNode, useMemo } from "react";
import { copy } from "./copy.ts";
import * as icons from "./icons.tsx";

const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const MAX_CHARS = 60_000;

/** A value as text, with a button that copies all of it. */
export function JsonView({ value, label }: { value: unknown; label: string }) {
  const text = useMemo(
    () => (typeof value === "string" ? value : JSON.stringify(value, null, 2)),
    [value],
  );
  const shown = text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS)}\n…` : text;
  return (
    <section className="json" aria-label={label}>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by keys */}
      <pre tabIndex={0}>{typeof value === "string" ? shown : paint(shown)}</pre>
      <button
        type="button"
        className="btn icon"
        aria-label={`Copy ${label}`}
        onClick={() => copy(text, "Copied")}
      >
        <icons.Copy />
      </button>
    </section>
  );
}

function paint(text: string): ReactNode[] {
  const parts: ReactNode[] = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    parts.push(text.slice(end, match.index));
    const [whole, string, colon, word] = match;
    const kind = string ? (colon ? "k" : "s") : word ? "b" : "n";
    parts.push(
      <span key={match.index} className={kind}>
        {string ?? whole}
      </span>,
    );
    if (colon) parts.push(colon);
    end = match.index + whole.length;
  }
  parts.push(text.slice(end));
  return parts;
}
