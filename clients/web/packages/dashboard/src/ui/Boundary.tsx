import { Component, type ReactNode } from "react";

/** What browsers say of a script of another build, or of an API that does not answer. */
const UNLOADED = /dynamically imported module|importing a module script|preload/i;
const KEY = "tailrace.reloaded";
const ONCE_PER_MS = 300_000;

interface Props {
  /** Where the page is; another place is tried again. */
  place: string;
  children: ReactNode;
}

interface State {
  error: unknown;
}

/** Show what a page failed with, instead of no page at all. */
export class Boundary extends Component<Props, State> {
  override state: State = { error: null };

  static getDerivedStateFromError(error: unknown): State {
    return { error: error ?? new Error("unknown") };
  }

  override componentDidCatch(error: unknown): void {
    if (UNLOADED.test(String(error))) void reloadOnce();
  }

  override componentDidUpdate({ place }: Props): void {
    // React keeps the failure of a script that did not load: only a reload asks for it again.
    const { error } = this.state;
    if (error !== null && place !== this.props.place) this.setState({ error: null });
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (error === null) return this.props.children;
    const isUnloaded = UNLOADED.test(String(error));
    return (
      <div className="page">
        <div className="card failure" role="alert">
          <strong>{isUnloaded ? "This page did not load" : "This page has failed"}</strong>
          <span>
            {isUnloaded
              ? "The API does not answer, or has been updated since this tab was opened."
              : String(error)}
          </span>
          <span>
            <button type="button" className="btn" onClick={() => location.reload()}>
              Reload
            </button>
          </span>
        </div>
      </div>
    );
  }
}

/** Load the scripts of the present build; not in a loop, and not while the API is down. */
async function reloadOnce(): Promise<void> {
  try {
    const last = Number(sessionStorage.getItem(KEY));
    if (Date.now() - last < ONCE_PER_MS) return;
    const { ok } = await fetch(document.baseURI, { method: "HEAD", cache: "no-store" });
    if (!ok) return;
    sessionStorage.setItem(KEY, String(Date.now()));
    location.reload();
  } catch {
    // The button is there.
  }
}
