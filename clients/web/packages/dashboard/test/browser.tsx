/** Parts of the dashboard in a document of jsdom, over an API that a test answers for. */
import { QueryClientProvider } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { flushSync } from "react-dom";
import { createRoot, type Root } from "react-dom/client";
import { vi } from "vitest";
import { client } from "../src/data/api.ts";

// jsdom has no modal dialogs.
HTMLDialogElement.prototype.showModal = function () {
  this.open = true;
};
HTMLDialogElement.prototype.close = function () {
  this.open = false;
  this.dispatchEvent(new Event("close"));
};

export interface Asked {
  method: string;
  path: string;
  body: unknown;
  key: string | null;
  authorization: string | null;
}

/** Answer a request with a value, a `Response`, or a promise of one; a throw is a lost answer. */
export type Answer = (asked: Asked) => unknown;

/** Let `fetch` ask this API; return the list of what was asked. */
export function serve(answer: Answer): Asked[] {
  const asked: Asked[] = [];
  const fetched = async (url: string, { method = "GET", headers, body }: RequestInit) => {
    const { pathname, search } = new URL(url);
    const sent = new Headers(headers);
    const request = {
      method,
      path: pathname + search,
      body: JSON.parse(String(body)),
      key: sent.get("idempotency-key"),
      authorization: sent.get("authorization"),
    };
    asked.push(request);
    const found = await answer(request);
    return found instanceof Response ? found : new Response(JSON.stringify(found));
  };
  vi.stubGlobal("fetch", fetched);
  return asked;
}

/** A refusal of the API. */
export const refuse = (status: number, detail: string): Response =>
  new Response(JSON.stringify({ detail }), { status });

/** What a token allows that may do everything. */
export const ME = { subject: "ada", scopes: null };

let root: Root | null = null;

/** Render a page in place of the last one. */
export async function render(children: ReactNode): Promise<HTMLElement> {
  root?.unmount();
  client.clear();
  document.body.replaceChildren();
  const element = document.body.appendChild(document.createElement("main"));
  const made = createRoot(element);
  root = made;
  flushSync(() =>
    made.render(<QueryClientProvider client={client}>{children}</QueryClientProvider>),
  );
  return element;
}

export function find(selector: string, text = ""): HTMLElement | undefined {
  return [...document.querySelectorAll<HTMLElement>(selector)].find((each) =>
    `${each.textContent} ${each.ariaLabel ?? each.getAttribute("aria-label")}`.includes(text),
  );
}

/** Wait for an element and click it. */
export async function click(text: string): Promise<void> {
  const button = await shown("button", text);
  button.click();
}

/** Type into an input, over what React has set. */
export function enter(input: HTMLInputElement, text: string): void {
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value")?.set?.call(input, text);
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Wait until an element is shown. */
export async function shown(selector: string, text = ""): Promise<HTMLElement> {
  return await vi.waitFor(() => {
    const found = find(selector, text);
    if (!found) throw new Error(`no ${selector} with ${text} in ${document.body.innerHTML}`);
    return found;
  }, 5_000);
}
