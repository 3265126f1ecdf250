import { useConnection, useInbox } from "@tailrace/react";
import {
  lazy,
  type ReactNode,
  Suspense,
  useCallback,
  useEffect,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";
import type { Connection } from "./data/live.ts";
import { Only, type Scope, useMay, useMe } from "./data/me.tsx";
import { session } from "./data/session.ts";
import { Finder } from "./Finder.tsx";
import Overview from "./pages/Overview.tsx";
import RunPage from "./pages/Run.tsx";
import Runs from "./pages/Runs.tsx";
import { Link, usePlace } from "./router.tsx";
import { useShortcuts } from "./shortcuts.ts";
import { SignIn } from "./ui/AccessForm.tsx";
import { Boundary } from "./ui/Boundary.tsx";
import { wordsOf } from "./ui/connection.ts";
import { count } from "./ui/format.ts";
import * as icons from "./ui/icons.tsx";
import { Empty, Loading, Sheet, Toasts } from "./ui/parts.tsx";
import { applyTheme, isDark } from "./ui/theme.ts";

const Workflows = lazy(() => import("./pages/Workflows.tsx"));
const Workflow = lazy(() => import("./pages/Workflow.tsx"));
const Inbox = lazy(() => import("./pages/Inbox.tsx"));
const Pipelines = lazy(() => import("./pages/Pipelines.tsx"));
const Feed = lazy(() => import("./pages/Feed.tsx"));
const Performance = lazy(() => import("./pages/Performance.tsx"));
const Schedules = lazy(() => import("./pages/Schedules.tsx"));
const DeadLetters = lazy(() => import("./pages/DeadLetters.tsx"));
const Streams = lazy(() => import("./pages/Streams.tsx"));
const Compare = lazy(() => import("./pages/Compare.tsx"));
const Settings = lazy(() => import("./pages/Settings.tsx"));

const PAGES: [path: string, name: string, Icon: () => ReactNode, key: string, scope?: Scope][] = [
  ["", "Overview", icons.Overview, "o"],
  ["workflows", "Workflows", icons.Flow, "w"],
  ["runs", "Runs", icons.Play, "r"],
  ["inbox", "Inbox", icons.InboxIcon, "i"],
  ["pipelines", "Pipelines", icons.Pipe, "p"],
  ["feed", "Feed", icons.FeedIcon, "f"],
  ["performance", "Performance", icons.Chart, "e"],
  ["schedules", "Schedules", icons.Clock, "s"],
  ["dead-letters", "Dead letters", icons.Dead, "d", "operator"],
  ["streams", "Streams", icons.Plug, "t"],
  ["settings", "Settings", icons.Gear, ","],
];

function pageOf(path: string[]): ReactNode {
  const [page = "", first, second] = path;
  switch (page) {
    case "":
      return <Overview />;
    case "workflows":
      return first ? <Workflow key={first} id={first} /> : <Workflows />;
    case "runs":
      return first ? <RunPage key={first} id={first} /> : <Runs />;
    case "inbox":
      return <Inbox />;
    case "pipelines":
      return <Pipelines />;
    case "feed":
      return <Feed />;
    case "performance":
      return <Performance />;
    case "schedules":
      return <Schedules />;
    case "dead-letters":
      return <DeadLetters />;
    case "streams":
      return <Streams />;
    case "compare":
      return <Compare first={first ?? ""} second={second ?? ""} />;
    case "settings":
      return <Settings />;
    default:
      return (
        <div className="page">
          <div className="card">
            <Empty title="There is no such page">
              <a href="#/">Overview</a>
            </Empty>
          </div>
        </div>
      );
  }
}

const pathOfKey = (key: string) => PAGES.find(([, , , each]) => each === key)?.[0];

export function App() {
  const { path } = usePlace();
  const [help, setHelp] = useState(false);
  useShortcuts(
    pathOfKey,
    useCallback(() => setHelp(true), []),
  );
  const isSignedOut = useConnection().detail === "unauthorized";
  const page = path[0] ?? "";
  const [, name, , , scope] = PAGES.find(([each]) => each === page) ?? [];
  useEffect(() => {
    if (name && page !== "runs") document.title = `${name} · Tailrace`;
  }, [name, page]);
  return (
    <div className="shell">
      <button type="button" className="skip-link" onClick={focusMain}>
        Skip to the content
      </button>
      <header className="top">
        <a className="brand" href="#/" aria-label="Tailrace">
          <icons.Wave />
          <b>Tailrace</b>
        </a>
        <span className="tenant">{session().organization || "default"}</span>
        <span className="grow" />
        <Finder />
        <LiveBadge />
        <ThemeButton />
      </header>
      <Nav page={page} />
      <main className="main" id="main" tabIndex={-1}>
        <Outage />
        <Boundary place={path.join("/")}>
          <Suspense
            fallback={
              <div className="page">
                <Loading />
              </div>
            }
          >
            {isSignedOut ? (
              <SignIn />
            ) : scope ? (
              <Guarded scope={scope}>{pageOf(path)}</Guarded>
            ) : (
              pageOf(path)
            )}
          </Suspense>
        </Boundary>
      </main>
      <Toasts />
      {help ? <Keys onClose={() => setHelp(false)} /> : null}
    </div>
  );
}

/** A page that asks the API only if the token allows it. */
function Guarded({ scope, children }: { scope: Scope; children: ReactNode }) {
  const isKnown = useMe() !== undefined;
  return (
    <Only
      scope={scope}
      others={
        <div className="page">
          <div className="card">
            {isKnown ? (
              <Empty title="Your token does not allow this">
                <span>
                  This page needs the scope <code>{scope}</code>.
                </span>
              </Empty>
            ) : (
              <Loading />
            )}
          </div>
        </div>
      }
    >
      {children}
    </Only>
  );
}

function focusMain(): void {
  document.getElementById("main")?.focus();
}

function Nav({ page }: { page: string }) {
  const { total } = useInbox();
  const isOperator = useMay("operator");
  const bar = useRef<HTMLElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another page has another link
  useEffect(() => {
    const link = bar.current?.querySelector("[aria-current]");
    link?.scrollIntoView?.({ block: "nearest", inline: "center" });
  }, [page]);
  return (
    <nav className="nav" aria-label="Pages" ref={bar}>
      {PAGES.filter(([, , , , scope]) => !scope || isOperator).map(([path, name, Icon]) => (
        <Link
          key={path}
          href={`#/${path}`}
          current={path === page || (path === "runs" && page === "compare")}
          className={path === "settings" ? "end" : undefined}
        >
          <Icon />
          {name}
          {path === "inbox" && total ? (
            <em>
              {total}
              <span className="visually-hidden"> waiting</span>
            </em>
          ) : null}
        </Link>
      ))}
    </nav>
  );
}

function watchNetwork(changed: () => void): () => void {
  const stop = new AbortController();
  addEventListener("online", changed, { signal: stop.signal });
  addEventListener("offline", changed, { signal: stop.signal });
  return () => stop.abort();
}

/** The state of the streams; a computer without a network is offline before they notice. */
function useShownConnection(): Connection {
  const connection = useConnection();
  const isOnline = useSyncExternalStore(watchNetwork, () => navigator.onLine);
  return isOnline ? connection : { ...connection, detail: "offline" };
}

function LiveBadge() {
  const connection = useShownConnection();
  const [status, word] = wordsOf(connection);
  const { tabs, streams } = connection;
  return (
    <a
      className={`live is-${status}`}
      href="#/streams"
      title="All tabs of this browser share what they follow"
    >
      <i />
      {word}{" "}
      <span>
        {count(Math.max(tabs, 1), "tab")}
        {streams ? ` · ${count(streams, "stream")}` : ""}
      </span>
    </a>
  );
}

function Outage() {
  const connection = useShownConnection();
  const [status, , text] = wordsOf(connection);
  if (!text || connection.detail === "unauthorized") return null;
  return (
    <div className={`banner is-${status}`} role="status">
      {text}
      {connection.cause ? <span className="muted">{connection.cause}</span> : null}
    </div>
  );
}

function ThemeButton() {
  const [dark, setDark] = useState(isDark);
  const toggle = () => {
    applyTheme(dark ? "light" : "dark");
    setDark(!dark);
  };
  return (
    <button
      type="button"
      className="btn quiet icon"
      aria-label={dark ? "Light theme" : "Dark theme"}
      title={dark ? "Light theme" : "Dark theme"}
      onClick={toggle}
    >
      {dark ? <icons.Sun /> : <icons.Moon />}
    </button>
  );
}

function Keys({ onClose }: { onClose: () => void }) {
  const keys: [string, string][] = [
    ["/", "search"],
    ["g r", "runs; g i inbox, g w workflows, g o overview"],
    ["j k", "next and previous row; Enter opens it"],
    ["a r", "approve and reject"],
    [", .", "previous and next event of a run"],
    ["L", "follow the run live"],
    ["?", "this list"],
  ];
  return (
    <Sheet title="Keys" onClose={onClose}>
      <dl className="facts" style={{ padding: 0 }}>
        {keys.map(([key, text]) => (
          <div key={key} style={{ display: "contents" }}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </Sheet>
  );
}
