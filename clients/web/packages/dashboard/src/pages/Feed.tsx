import type { FeedEvent } from "@tailrace/client";
import { useFeed } from "@tailrace/react";
import { href } from "../router.tsx";
import { clock, duration } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Empty, Title } from "../ui/parts.tsx";
import { Glyph } from "../ui/status.tsx";

const keys = new WeakMap<FeedEvent, number>();
let keyed = 0;

/** Return a number for an event, by which a list knows it again. */
function keyOf(event: FeedEvent): number {
  const known = keys.get(event);
  if (known !== undefined) return known;
  keys.set(event, ++keyed);
  return keyed;
}

function gist(event: FeedEvent): [status: string, text: string] {
  switch (event.type) {
    case "error":
      return ["error", `${event.stage ?? "workflow"} failed: ${event.error}`];
    case "completion":
      return ["success", `${event.stage} took ${duration(event.duration_ms)}`];
    case "stage":
      return [
        event.status === "completed" ? "success" : "running",
        `${event.stage} ${event.status}`,
      ];
    default:
      return ["running", event.message ?? "progress"];
  }
}

export default function Feed() {
  const { events } = useFeed();
  return (
    <div className="page">
      <Title>Feed</Title>
      <p className="muted">What happens now, by stage, in all runs of this organization.</p>
      <div className="card">
        {events.length ? (
          <ol className="feed" aria-label="Events, newest first">
            {events.map((event) => {
              const [status, text] = gist(event);
              return (
                <li key={keyOf(event)} className={`is-${status}`}>
                  <code className="muted">{clock(event.timestamp)}</code>
                  <Glyph status={status} />
                  <span className="clip">
                    <a href={href("runs", event.executionId ?? "")}>{event.poId}</a>{" "}
                    <span className={event.type === "error" ? "log-error" : ""}>{text}</span>
                  </span>
                  <span className="muted">
                    {event.progress !== undefined ? `${Math.round(event.progress)} %` : ""}
                  </span>
                </li>
              );
            })}
          </ol>
        ) : (
          <Empty title="Nothing since this page was opened" icon={<icons.FeedIcon />}>
            <span>
              Events appear as runs reach nodes with a <code>stage</code>.
            </span>
            <pre>{"parse: {type: po.parse, stage: ai_parsing}"}</pre>
          </Empty>
        )}
      </div>
    </div>
  );
}
