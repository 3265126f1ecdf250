import { useSyncExternalStore } from "react";
import { live } from "../data/live.ts";
import { useNow } from "../data/store.ts";
import { bytes, clock, duration } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Empty, Title } from "../ui/parts.tsx";
import { Pill } from "../ui/status.tsx";
import { VirtualList } from "../ui/VirtualList.tsx";

/** What arrives over the stream of this page, and a switch that cuts it. */
export default function Streams() {
  const lines = useSyncExternalStore(live.watch, () => live.lines);
  const total = useSyncExternalStore(live.watch, () => live.blocks);
  const now = useNow();
  const connected = live.state === "connected";
  return (
    <div className="page full" style={{ gridTemplateRows: "auto auto auto minmax(0, 1fr)" }}>
      <Title
        aside={
          <>
            <button
              type="button"
              className={`btn ${live.isCut ? "primary" : ""}`}
              aria-pressed={live.isCut}
              onClick={() => (live.isCut ? live.mend() : live.cut())}
            >
              <icons.Cut /> {live.isCut ? "Plug it in again" : "Pull the plug"}
            </button>
            <button type="button" className="btn" onClick={() => live.restart()}>
              <icons.Again /> Start anew
            </button>
          </>
        }
      >
        Streams
      </Title>
      <p className="muted">
        All that this page shows live comes over one connection. Cut it, start a run, and plug it in
        again: the page goes on after the last id, and nothing is missing or doubled.
      </p>
      <div className="tiles">
        <div className="card tile">
          <span className="muted">State</span>
          <span>
            <Pill status={connected ? "success" : "waiting"}>
              {live.isCut ? "Cut" : live.state}
            </Pill>{" "}
            <span className="muted">for {duration(now - live.since)}</span>
          </span>
        </div>
        <div className="card tile">
          <span className="muted">Connections so far</span>
          <b>{live.connections}</b>
        </div>
        <div className="card tile">
          <span className="muted">Blocks</span>
          <b>{total.toLocaleString("en")}</b>
        </div>
        <div className="card tile">
          <span className="muted">Received</span>
          <b>{bytes(live.bytes)}</b>
        </div>
        <div className="card tile">
          <span className="muted">Resets</span>
          <b>{live.resets}</b>
        </div>
        <div className="card tile">
          <span className="muted">Last id</span>
          <code className="clip" title={live.lastId}>
            {live.lastId || "–"}
          </code>
          <span className="muted small clip">{live.topics.join(", ")}</span>
        </div>
      </div>
      <div className="card panel">
        <div className="vhead stream-cols">
          <span>Arrived</span>
          <span>Topic</span>
          <span>Event</span>
          <span className="hide-narrow">Id</span>
          <span className="hide-narrow">Size</span>
          <span className="hide-narrow">Delay</span>
        </div>
        {lines.length ? (
          <VirtualList items={lines} rowHeight={28} label="Blocks, newest last" follow>
            {(line) => (
              <div className="vrow stream-cols" title={line.text}>
                <code className="muted">{clock(line.at, true)}</code>
                <code className="clip">{line.topic.replace(/(execution:.{8}).*/, "$1…")}</code>
                <code className="clip">{line.event}</code>
                <code className="clip muted hide-narrow">{line.id}</code>
                <span className="muted hide-narrow">{bytes(line.bytes)}</span>
                <span className="muted hide-narrow">
                  {line.delayMs === null || line.delayMs > 60_000
                    ? "past"
                    : duration(Math.max(line.delayMs, 0))}
                </span>
              </div>
            )}
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
