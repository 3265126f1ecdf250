import {
  createContext,
  type ReactNode,
  useContext,
  useEffect,
  useId,
  useRef,
  useState,
} from "react";
import { Problem } from "../data/api.ts";
import { Store } from "../data/store.ts";
import { useNow, useStore } from "../data/useStore.ts";
import { ago, moment } from "./format.ts";
import * as icons from "./icons.tsx";

export function Title({ children, aside }: { children: ReactNode; aside?: ReactNode }) {
  return (
    <div className="row wrap">
      <h1>{children}</h1>
      <span className="grow" />
      {aside}
    </div>
  );
}

/** A time as people say it, with the exact value on hover. */
export function Ago({ at }: { at: string | null }) {
  const now = useNow();
  return (
    <time dateTime={at ?? undefined} title={at ?? undefined} className="nowrap">
      {at && now - Date.parse(at) > 12 * 3_600_000 ? moment(at) : ago(at, now)}
    </time>
  );
}

export function Empty(props: { title: string; children?: ReactNode; icon?: ReactNode }) {
  return (
    <div className="empty">
      {props.icon}
      <strong>{props.title}</strong>
      {props.children}
    </div>
  );
}

export function Loading({ rows = 5 }: { rows?: number }) {
  return (
    <div role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, row) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the rows are alike
        <div key={row} className="skeleton" style={{ width: `${92 - ((row * 17) % 40)}%` }} />
      ))}
    </div>
  );
}

/** What failed and what to do; keeps what was typed, because it replaces nothing. */
export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  const problem = error instanceof Problem ? error : null;
  const text = error instanceof Error ? error.message : String(error);
  return (
    <div className="failure" role="alert">
      <strong>{headline(problem)}</strong>
      <span>{text}</span>
      {problem?.errors.length ? (
        <ul>
          {problem.errors.map((each) => (
            <li key={each.pointer + each.detail}>
              {each.pointer ? <code>{each.pointer} </code> : null}
              {each.detail}
            </li>
          ))}
        </ul>
      ) : null}
      {problem?.status === 401 ? <a href="#/settings">Sign in with a token</a> : null}
      {problem?.requestId ? (
        <span className="hint">
          Request <code>{problem.requestId}</code>
        </span>
      ) : null}
      {retry ? (
        <span>
          <button type="button" className="btn" onClick={retry}>
            Try again
          </button>
        </span>
      ) : null}
    </div>
  );
}

function headline(problem: Problem | null): string {
  if (problem?.status === 401) return "Sign in to see this";
  if (problem?.status === 403) return "Your token does not allow this";
  if (problem?.status === 404) return "Not found";
  if (problem?.status === 409) return "Not possible in this state";
  if (problem?.status === 0) return "No connection";
  return "This did not work";
}

interface SideProps {
  title: ReactNode;
  /** What the button that closes it is called. */
  close: string;
  onClose: () => void;
  children: ReactNode;
  label?: string;
}

/** A panel beside a list or a graph. */
export function Side({ title, close, onClose, children, label }: SideProps) {
  return (
    <aside className="card side" aria-label={label}>
      <div className="card-head">
        {title}
        <span className="grow" />
        <button type="button" className="btn quiet icon" aria-label={close} onClick={onClose}>
          <icons.Close />
        </button>
      </div>
      {children}
    </aside>
  );
}

/** Shows in a sheet what a command in it has failed with: a toast is behind the dialog. */
const Report = createContext<((error: unknown) => void) | null>(null);

interface SheetProps {
  title: string;
  onClose: () => void;
  children: ReactNode;
  foot?: ReactNode;
}

export function Sheet({ title, onClose, children, foot }: SheetProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [error, setError] = useState<unknown>(null);
  const id = useId();
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} className="sheet" aria-labelledby={id} onClose={onClose}>
      <div className="sheet-head">
        <h2 id={id}>{title}</h2>
        <span className="grow" />
        <button
          type="button"
          className="btn quiet icon"
          aria-label="Close"
          onClick={() => dialog.current?.close()}
        >
          <icons.Close />
        </button>
      </div>
      <Report value={setError}>
        <div className="sheet-body">{children}</div>
        {error ? <Failure error={error} /> : null}
        {foot ? <div className="sheet-foot">{foot}</div> : null}
      </Report>
    </dialog>
  );
}

interface Toast {
  id: number;
  text: string;
  status: string;
}

const toasts = new Store<Toast[]>([]);
let toastId = 0;

export function toast(text: string, status = "active"): void {
  const id = ++toastId;
  toasts.set([...toasts.newest, { id, text, status }]);
  setTimeout(() => toasts.set(toasts.newest.filter((each) => each.id !== id)), 6_000);
}

export function Toasts() {
  return (
    <div className="toasts" role="status" aria-live="polite">
      {useStore(toasts).map((each) => (
        <div key={each.id} className={`toast is-${each.status}`}>
          {each.text}
        </div>
      ))}
    </div>
  );
}

/** A button of a command: disabled while it is sent, with the refusal in its sheet or as a toast. */
export function Command(props: {
  run: () => Promise<unknown>;
  done?: string;
  children: ReactNode;
  className?: string;
  label?: string;
  title?: string;
}) {
  const [isSent, setSent] = useState(false);
  const report = useContext(Report);
  const send = async () => {
    setSent(true);
    report?.(null);
    try {
      await props.run();
      if (props.done) toast(props.done, "success");
    } catch (error) {
      if (report) report(error);
      else toast(error instanceof Error ? error.message : String(error), "error");
    } finally {
      setSent(false);
    }
  };
  return (
    <button
      type="button"
      className={`btn ${props.className ?? ""}`}
      disabled={isSent}
      aria-label={props.label}
      title={props.title}
      onClick={send}
    >
      {props.children}
    </button>
  );
}

/** A command that is sent only after it was confirmed. */
export function Confirmed(props: {
  run: () => Promise<unknown>;
  done: string;
  /** What the button says, and what it is called where that is not enough. */
  children: ReactNode;
  label?: string;
  className?: string;
  question: string;
  /** What happens. */
  text: ReactNode;
  /** What the button that confirms it says. */
  yes: string;
}) {
  const [isOpen, setOpen] = useState(false);
  const close = () => setOpen(false);
  return (
    <>
      <button
        type="button"
        className={`btn ${props.className ?? ""}`}
        aria-label={props.label}
        onClick={() => setOpen(true)}
      >
        {props.children}
      </button>
      {isOpen ? (
        <Sheet
          title={props.question}
          onClose={close}
          foot={
            <>
              <button type="button" className="btn" onClick={close}>
                Close
              </button>
              <Command run={() => props.run().then(close)} done={props.done} className="danger">
                {props.yes}
              </Command>
            </>
          }
        >
          <p>{props.text}</p>
        </Sheet>
      ) : null}
    </>
  );
}
