import { QueryClient } from "@tanstack/query-core";
import { BASE, sessionHeaders } from "./session.ts";

/** A refusal of the API: problem details, and what the request was. */
export class Problem extends Error {
  readonly status: number;
  readonly errors: { pointer: string; detail: string }[];
  readonly requestId: string | null;

  constructor(status: number, detail: string, errors: Problem["errors"], requestId: string | null) {
    super(detail);
    this.status = status;
    this.errors = errors;
    this.requestId = requestId;
  }
}

/** Return an idempotency key. `randomUUID` exists only on pages from HTTPS or this machine. */
export const newKey = (): string => crypto.getRandomValues(new Uint32Array(4)).join("-");

/**
 * @param key the idempotency key of a POST; the same one for each try of a request.
 * @param access the headers of a user, for a request that is sent again in another session.
 */
export async function call<T>(
  method: string,
  path: string,
  body?: unknown,
  key = newKey(),
  access = sessionHeaders(),
): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json", ...access };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (method === "POST") headers["idempotency-key"] = key;
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(BASE + path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
    });
    text = await answer.text();
  } catch {
    const doubt = method === "GET" ? "" : " Whether the request has arrived is not known.";
    throw new Problem(0, `The API does not answer.${doubt}`, [], null);
  }
  if (answer.ok) return (text ? JSON.parse(text) : null) as T;
  throw problemOf(answer, text);
}

function problemOf(answer: Response, text: string): Problem {
  const id = answer.headers.get("x-request-id");
  try {
    const body = JSON.parse(text) as { detail?: string; errors?: Problem["errors"] };
    return new Problem(answer.status, body.detail ?? answer.statusText, body.errors ?? [], id);
  } catch {
    return new Problem(answer.status, answer.statusText || "The API refused.", [], id);
  }
}

export const get = <T>(path: string) => call<T>("GET", path);
export const post = <T>(
  path: string,
  body: unknown = {},
  key?: string,
  access?: Record<string, string>,
) => call<T>("POST", path, body, key, access);

/** Return a query string with the values that are not empty. */
export function query(values: Record<string, string | number | null | undefined>): string {
  const found = Object.entries(values).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return found.length ? `?${new URLSearchParams(found.map(([k, v]) => [k, String(v)]))}` : "";
}

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      refetchOnWindowFocus: true,
      // What the API refuses stays refused; only an absent answer is asked for again.
      retry: (count, error) =>
        count < 3 && !(error instanceof Problem && error.status >= 400 && error.status < 500),
    },
  },
});

/** Ask again after this time, unless the API refuses: it would refuse again. */
export const every =
  (ms: number) =>
  ({ state }: { state: { error: unknown } }): number | false =>
    state.error instanceof Problem && state.error.status >= 400 && state.error.status < 500
      ? false
      : ms;
