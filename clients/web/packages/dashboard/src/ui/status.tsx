import type { ReactNode } from "react";

const WORDS: Record<string, string> = {
  pending: "Idle",
  queued: "Queued",
  running: "Running",
  waiting: "Waiting",
  paused: "Paused",
  retrying: "Retrying",
  success: "Succeeded",
  completed: "Completed",
  error: "Failed",
  failed: "Failed",
  skipped: "Skipped",
  cancelled: "Cancelled",
  idle: "Idle",
  active: "Active",
};

const tick = <path d="m3.500 8.500 3 3 6-7" />;
const cross = <path d="m4.200 4.200 7.600 7.600M11.800 4.200l-7.600 7.600" />;
const bars = <path d="M6 3.800v8.400M10 3.800v8.400" />;
const spin = <path className="spin" d="M8 2.800A5.200 5.200 0 1 1 2.800 8" />;
const ring = <circle cx="8" cy="8" r="4.600" strokeDasharray="2.400 2.400" />;

const GLYPHS: Record<string, ReactNode> = {
  pending: ring,
  queued: ring,
  idle: ring,
  running: spin,
  active: spin,
  waiting: bars,
  paused: bars,
  retrying: <path d="M12.800 8a4.800 4.800 0 1 1-1.500-3.500M12.900 2.200v2.900H10" />,
  success: tick,
  completed: tick,
  error: cross,
  failed: cross,
  skipped: <path d="M8 3a5 5 0 1 0 0 10A5 5 0 0 0 8 3M4.500 11.500l7-7" />,
  cancelled: <path d="M4.500 4.500h7v7h-7z" />,
};

export const wordOf = (status: string): string => WORDS[status] ?? status;

export function Glyph({ status }: { status: string }) {
  return (
    <svg
      className="glyph"
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      strokeWidth="2"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      {GLYPHS[status] ?? ring}
    </svg>
  );
}

export function Pill({ status, children }: { status: string; children?: ReactNode }) {
  return (
    <span className={`pill is-${status}`} data-status={status}>
      <Glyph status={status} />
      {children ?? wordOf(status)}
    </span>
  );
}

export function StatusWord({ status, children }: { status: string; children?: ReactNode }) {
  return (
    <span className={`status-word is-${status}`} data-status={status}>
      <Glyph status={status} />
      {children ?? wordOf(status)}
    </span>
  );
}
