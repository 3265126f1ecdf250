/** Typed requests. */

import type { ProblemDocument } from "./generated.js";
import type { Host } from "./host.js";
import type { Credentials } from "./stream.js";
import type { TailraceError } from "./types.js";

export class RequestError extends Error implements TailraceError {
  override readonly name = "TailraceError";
  readonly status: number;
  readonly problem: ProblemDocument | null;

  constructor(message: string, status: number, problem: ProblemDocument | null) {
    super(message);
    this.status = status;
    this.problem = problem;
  }
}

export interface RequestParts {
  readonly path?: Readonly<Record<string, string | number>>;
  readonly query?: Readonly<Record<string, unknown>>;
  readonly body?: unknown;
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
}

/** Return the path and query of a route. */
export function urlOf(template: string, { path = {}, query = {} }: RequestParts): string {
  const filled = template.replace(/\{(\w+)\}/g, (_, name: string) =>
    encodeURIComponent(String(path[name] ?? "")),
  );
  const given = Object.entries(query).filter(([, value]) => value != null);
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
  return given.length ? `${filled}?${text}` : filled;
}

/** Return a random key; `randomUUID` exists only on pages from HTTPS or this machine. */
const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

export async function send(
  host: Host,
  credentials: Credentials,
  baseUrl: string,
  route: string,
  parts: RequestParts,
): Promise<unknown> {
  const [method = "GET", template = ""] = route.split(" ");
  const { body, signal } = parts;
  // A body of a POST may reach the server twice, by a retry here or in a proxy.
  const key = parts.idempotencyKey ?? (method === "POST" ? newKey() : undefined);
  const request = async () =>
    host.fetch(baseUrl + urlOf(template, parts), {
      method,
      headers: {
        ...(await credentials.headers()),
        Accept: "application/json",
        ...(body !== undefined && { "Content-Type": "application/json" }),
        ...(key && { "Idempotency-Key": key }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
    });
  let response: Response;
  try {
    response = await request();
    if (response.status === 401 && (await credentials.refresh())) response = await request();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new RequestError(`${route}: ${(error as Error).message}`, 0, null);
  }
  const isJson = response.headers.get("Content-Type")?.includes("json");
  const answer = response.status === 204 ? undefined : await response[isJson ? "json" : "text"]();
  if (response.ok) return answer;
  const problem = isJson ? (answer as ProblemDocument) : null;
  throw new RequestError(problem?.detail ?? `${response.status}`, response.status, problem);
}
