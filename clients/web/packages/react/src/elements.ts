/**
 * Elements for pages without React: `<tailrace-run>`, `<tailrace-inbox>` and `<tailrace-badge>`.
 *
 * Attributes: `base-url`, `token`, `organization`, and `execution` of a run. Importing this module
 * defines them. They need no style sheet and no `unsafe-*` in a policy.
 */

import type { Connection, RunView, StepState, Store, TailraceClient } from "@tailrace/client";
import { clientOf } from "./clients.js";

const STYLE = `
:host { display: block; font: 14px/20px system-ui, sans-serif; color-scheme: light dark; }
:host([hidden]) { display: none; }
ul { list-style: none; margin: 0; padding: 0; }
li { display: flex; gap: 8px; align-items: baseline; padding: 4px 0; border-bottom: 1px solid color-mix(in srgb, currentcolor 15%, transparent); }
.name { flex: 1; }
.name a { color: inherit; }
.quiet { opacity: 0.75; }
[aria-disabled="true"] { opacity: 0.5; }
[data-status="success"], [data-status="completed"], [data-status="connected"] { color: light-dark(#1b7545, #55c58a); }
[data-status="error"], [data-status="failed"] { color: light-dark(#bf2836, #ff7a85); }
[data-status="running"] { color: light-dark(#1d63c9, #6aa9ff); }
[data-status="waiting"], [data-status="paused"] { color: light-dark(#8a5a00, #e0b252); }
[data-status="retrying"] { color: light-dark(#b04a06, #f0945a); }
progress { width: 100%; }
`;

// A server renders no elements, and must be able to import this.
const Base = globalThis.HTMLElement ?? (class {} as typeof HTMLElement);

function styleSheet(): CSSStyleSheet {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  return sheet;
}

/** Return an element with children; texts are never markup. */
function html(
  tag: string,
  attributes: Readonly<Record<string, string>>,
  ...children: (Node | string)[]
): HTMLElement {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Show these children. Those that stay are not moved: a move would take the focus from them. */
function place(parent: ParentNode & Node, children: readonly Node[]): void {
  for (const each of [...parent.childNodes]) if (!children.includes(each)) each.remove();
  for (const [index, each] of children.entries()) {
    const present = parent.childNodes[index] ?? null;
    if (present !== each) parent.insertBefore(each, present);
  }
}

/** An element that shows a store while it is on a page. */
abstract class StoreElement<T> extends Base {
  static readonly observedAttributes = ["base-url", "token", "organization", "execution"];
  #stop: () => void = () => {};
  #isScheduled = false;

  /** The client of the attributes. */
  get client(): TailraceClient {
    const option = (name: string, attribute: string) => {
      const value = this.getAttribute(attribute);
      return value === null ? {} : { [name]: value };
    };
    return clientOf({
      ...option("baseUrl", "base-url"),
      ...option("token", "token"),
      ...option("organization", "organization"),
    });
  }

  protected abstract store(): Store<T> | null;
  protected abstract show(value: T): Node[];

  connectedCallback(): void {
    if (this.shadowRoot === null)
      this.attachShadow({ mode: "open" }).adoptedStyleSheets = [styleSheet()];
    this.#follow();
  }

  disconnectedCallback(): void {
    this.#stop();
    this.#stop = () => {};
  }

  // Several attributes change in one turn; they make one store.
  attributeChangedCallback(): void {
    if (!this.isConnected || this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      if (this.isConnected) this.#follow();
    });
  }

  #follow(): void {
    this.#stop();
    const store = this.store();
    const render = () => {
      if (this.shadowRoot) place(this.shadowRoot, store === null ? [] : this.show(store.get()));
    };
    this.#stop = store?.subscribe(render) ?? (() => {});
    render();
  }
}

function stepLine(step: StepState): HTMLElement {
  const percent = step.percent === null ? "" : ` ${Math.round(step.percent)} %`;
  const about = step.error ?? step.waiting?.reason ?? step.message;
  return html(
    "li",
    {},
    html("span", { class: "name" }, step.name || step.node_id),
    html("span", { class: "quiet" }, about),
    html("span", { "data-status": step.status, part: "status" }, step.status + percent),
  );
}

/** The steps of the run `execution`, live. */
export class TailraceRun extends StoreElement<RunView> {
  protected store(): Store<RunView> | null {
    const execution = this.getAttribute("execution");
    return execution ? this.client.run(execution) : null;
  }

  protected show({ phase, state, error }: RunView): Node[] {
    if (state === null)
      return [
        html("p", { role: "status" }, phase === "missing" ? (error ?? "No such run") : "Loading…"),
      ];
    const steps = [...state.steps.values()].map(stepLine);
    return [
      html(
        "p",
        { role: "status" },
        `${state.workflow_name || state.workflow_id}: `,
        html("span", { "data-status": state.status, part: "status" }, state.status),
        state.error === null ? "" : ` (${state.error})`,
      ),
      html("ul", {}, ...steps),
    ];
  }
}

type Inbox = ReturnType<ReturnType<TailraceClient["inbox"]>["get"]>;
type Entry = Inbox["entries"][number];

/** The steps that wait for a decision, with buttons to decide. */
export class TailraceInbox extends StoreElement<Inbox> {
  readonly #list = html("ul", {});
  /** The rows by their step, which waits once: a row stays while others come and go, and knows what it has sent. */
  #rows = new Map<string, HTMLElement>();
  #shown: TailraceClient | null = null;

  protected store(): Store<Inbox> {
    if (this.#shown !== this.client) this.#rows.clear();
    this.#shown = this.client;
    return this.client.inbox();
  }

  protected show({ ready, entries, error }: Inbox): Node[] {
    if (error !== null) return [html("p", { role: "alert" }, error)];
    if (!ready) return [html("p", { role: "status" }, "Loading…")];
    const known = this.#rows;
    this.#rows = new Map();
    for (const entry of entries) {
      const key = `${entry.executionId}~${entry.pausedAt}`;
      this.#rows.set(key, known.get(key) ?? this.#row(entry));
    }
    if (!entries.length) return [html("p", { role: "status" }, "Nothing waits for a decision.")];
    const focused = this.shadowRoot?.activeElement?.closest("li") ?? null;
    const index = [...this.#list.children].indexOf(focused as Element);
    place(this.#list, [...this.#rows.values()]);
    // Not to a button: a key that is pressed twice must not decide twice.
    if (focused && focused.parentNode === null)
      (this.#list.children[index] ?? this.#list.lastElementChild)?.querySelector("a")?.focus();
    return [this.#list];
  }

  #row(entry: Entry): HTMLElement {
    const { executionId, pausedAt, workflowName, reason, waitingFor } = entry;
    const { baseUrl = "" } = this.client.options;
    const id = encodeURIComponent(`${executionId}~${pausedAt}`);
    const link = { href: `${baseUrl}/#/inbox?entry=${id}`, title: "Open in the dashboard" };
    return html(
      "li",
      {},
      html("span", { class: "name" }, html("a", link, `${workflowName}: ${pausedAt}`)),
      html("span", { class: "quiet" }, [reason, ...waitingFor].filter(Boolean).join(", ")),
      ...(waitingFor.length ? [] : this.#decision(entry)),
    );
  }

  /** Return the buttons that decide a step, after the status of what they send. */
  #decision({ executionId, pausedAt }: Entry): HTMLElement[] {
    let isSending = false;
    const status = html("span", { role: "status" });
    const buttonOf = (decision: "approved" | "rejected", label: string) => {
      const button = html("button", { type: "button" }, label);
      const options = {
        path: { execution_id: executionId },
        body: { node_id: pausedAt, decision },
        // The server counts a decision once, however often it is sent.
        idempotencyKey: crypto.getRandomValues(new Uint32Array(4)).join("-"),
      };
      button.addEventListener("click", () => {
        if (isSending) return;
        setSending(true);
        status.textContent = "";
        this.client
          .request("POST /api/v1/executions/{execution_id}/resume", options)
          // The row leaves with the stream's next block.
          .catch((error: Error) => {
            setSending(false);
            status.textContent = error.message;
            this.dispatchEvent(new CustomEvent("tailrace-error", { detail: error, bubbles: true }));
          });
      });
      return button;
    };
    const buttons = [buttonOf("approved", "Approve"), buttonOf("rejected", "Reject")];
    const setSending = (is: boolean) => {
      isSending = is;
      // A button that is `disabled` would lose the focus.
      for (const button of buttons) button.setAttribute("aria-disabled", String(is));
    };
    return [status, ...buttons];
  }
}

/** How the streams are doing: the state, the tabs and their streams. */
export class TailraceBadge extends StoreElement<Connection> {
  #keep: () => void = () => {};

  override connectedCallback(): void {
    super.connectedCallback();
    // A badge alone follows something, or it would show that nothing is connected.
    this.#keep = this.client.observe("feed", { blocks() {}, reset() {}, ended() {} });
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#keep();
  }

  protected store(): Store<Connection> {
    return this.client.connection;
  }

  protected show({ state, detail, tabs, streams }: Connection): Node[] {
    const count = (number: number, unit: string) => `${number} ${unit}${number === 1 ? "" : "s"}`;
    const text = state === "connected" ? "Live" : (detail ?? state);
    const all = `${text} · ${count(tabs, "tab")} · ${count(streams, "stream")}`;
    return [html("span", { role: "status", "data-status": state, part: "status" }, all)];
  }
}

/** Define the elements; does nothing where they are defined, or where there is no page. */
export function defineElements(): void {
  if (typeof customElements === "undefined") return;
  const all = {
    "tailrace-run": TailraceRun,
    "tailrace-inbox": TailraceInbox,
    "tailrace-badge": TailraceBadge,
  };
  for (const [name, element] of Object.entries(all))
    if (customElements.get(name) === undefined) customElements.define(name, element);
}

defineElements();
