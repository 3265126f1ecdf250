import { useConnection } from "@tailrace/react";
import { useSyncExternalStore } from "react";
import { live, tailrace } from "../data/live.ts";
import { useNow } from "../data/useStore.ts";
import { bytes, clock, count, duration } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Empty, Title } from "../ui/parts.tsx";
import { VirtualList } from "../ui/VirtualList.tsx";

const SHARING: Record<string, string> = {
  worker: "held by a worker of the browser",
  locks: "held by one of the tabs",
  none: "held by this tab",
};

/** What arrives over the streams of this page, and a switch that cuts them. */
export default function Streams() {
  const lines = useSyncExternalStore(live.watch, () => live.lines);
  const isCut = useSyncExternalStore(live.watch, () => live.isCut);
  const connection = useConnection();
  const now = useNow();
  const { state, detail, nextAttemptAt, behindMs } = connection;
  return (
    <div className="page full" style={{ gridTemplateRows: "auto auto auto minmax(0, 1fr)" }}>
      <Title
        aside={
          <>
            <button
              type="button"
              className={`btn ${isCut ? "primary" : ""}`}
              aria-pressed={isCut}
              onClick={() => (isCut ? live.mend() : live.cut())}
            >
              <icons.Cut /> {isCut ? "Plug it in again" : "Pull the plug"}
            </button>
            <button type="button" className="btn" onClick={() => tailrace.reconnect()}>
              <icons.Again /> Reconnect
            </button>
          </>
        }
      >
        Streams
      </Title>
      <p className="muted">
        All tabs of this browser share one connection. Cut it, start a run, and plug it in again:
        the page goes on after the last id, and nothing is missing or doubled.
      </p>
      <div className="tiles">
        <div className="card tile">
          <span className="muted">State</span>
          <b className={state === "connected" ? "is-success" : "is-waiting"}>{detail ?? state}</b>
          <span className="muted small">
            {nextAttemptAt ? `next attempt in ${duration(nextAttemptAt - now)}` : connection.cause}
          </span>
        </div>
        <div className="card tile">
          <span className="muted">Open streams</span>
          <b>{connection.streams}</b>
          <span className="muted small">
            of {count(Math.max(connection.tabs, 1), "tab")}, {SHARING[connection.sharing]}
          </span>
        </div>
        <div className="card tile">
          <span className="muted">Blocks for this tab</span>
          <b>{live.total.toLocaleString("en")}</b>
          <span className="muted small">{count(live.resets, "reset")}</span>
        </div>
        <div className="card tile">
          <span className="muted">Delay of events</span>
          <b>{behindMs === null ? "–" : duration(Math.max(behindMs, 0))}</b>
          <span className="muted small">the newest, from the log to here</span>
        </div>
        <div className="card tile">
          <span className="muted">Last id</span>
          <b className="clip" title={connection.lastEventId}>
            <code>{connection.lastEventId || "–"}</code>
          </b>
          <span className="muted small clip" title={live.sources.join(", ")}>
            {count(live.sources.length, "topic")}: {live.sources.join(", ")}
          </span>
        </div>
      </div>
      <div className="card panel">
        <div className="vhead stream-cols">
          <span>Arrived</span>
          <span>Topic</span>
          <span>Event</span>
          <span className="hide-narrow">Id</span>
          <span className="hide-narrow">Size</span>
          <span className="hide-narrow">Age</span>
        </div>
        {lines.length ? (
          <VirtualList items={lines} rowHeight={28} label="Blocks, newest last" follow>
            {({ source, block }) => {
              const text = JSON.stringify(block.data);
              return (
                <div className="vrow stream-cols" title={text.slice(0, 1_000)}>
                  <code className="muted">{clock(block.at, true)}</code>
                  <code className="clip">{source.replace(/(execution:.{8}).*/, "$1…")}</code>
                  <code className="clip">{block.event}</code>
                  <code className="clip muted hide-narrow">{block.id}</code>
                  <span className="muted hide-narrow">{bytes(text.length)}</span>
                  <span className="muted hide-narrow">{ageOf(block)}</span>
                </div>
              );
            }}
          </VirtualList>
        ) : (
          <Empty title="No block yet" icon={<icons.Plug />}>
            <span>Start a run, and its events pass here.</span>
          </Empty>
        )}
      </div>
    </div>
  );
}

/** How old the event of a block was when it arrived. */
function ageOf({ data, at }: { data: unknown; at: number }): string {
  const stamp = (data as { timestamp?: string | number } | null)?.timestamp;
  const sent = typeof stamp === "string" ? Date.parse(stamp) : stamp;
  if (typeof sent !== "number" || Number.isNaN(sent)) return "";
  return duration(Math.max(at - sent, 0));
}
