/** The token of requests and streams, refreshed once for all requests that need it at a time. */

import type { Credentials } from "./stream.js";
import type { ClientOptions } from "./types.js";

type Exclusive = <T>(run: () => Promise<T>) => Promise<T>;

export class Tokens implements Credentials {
  readonly #options: ClientOptions;
  #token: string | null | undefined;
  #first: Promise<string | null> | null = null;
  #refreshing: Promise<boolean> | null = null;
  /** Run alone among all tabs; a group of tabs replaces it. */
  exclusive: Exclusive = (run) => run();
  /** Called with each token that a refresh brought. */
  onToken: (token: string) => void = () => {};

  constructor(options: ClientOptions) {
    this.#options = options;
    if (typeof options.token === "string") this.#token = options.token;
  }

  /** Return the present token; null without authentication. */
  async get(): Promise<string | null> {
    if (this.#token !== undefined) return this.#token;
    this.#first ??= this.#ask().finally(() => {
      this.#first = null;
    });
    const token = await this.#first;
    this.#token ??= token;
    return this.#token;
  }

  async #ask(): Promise<string | null> {
    const { token } = this.#options;
    return typeof token === "function" ? ((await token()) ?? null) : null;
  }

  /** Take a token that another tab has refreshed. */
  accept(token: string): void {
    this.#token = token;
  }

  async headers(): Promise<Record<string, string>> {
    const token = await this.get();
    const { organization } = this.#options;
    return {
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(organization && { "X-Organization-ID": organization }),
    };
  }

  /** Get another token than the present one; return whether there is one. */
  refresh(): Promise<boolean> {
    const stale = this.#token;
    this.#refreshing ??= this.exclusive(async () => {
      // Another tab may have refreshed it while this one waited.
      if (this.#token !== stale) return true;
      const fresh = await this.#ask();
      if (!fresh || fresh === stale) return false;
      this.#token = fresh;
      this.onToken(fresh);
      return true;
    }).finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }
}

/** Return whose token it is, so that tabs of different users share nothing. */
export function subjectOf(token: string | null): string {
  if (!token) return "";
  try {
    const [, claims = ""] = token.split(".");
    return String(JSON.parse(atob(claims.replace(/-/g, "+").replace(/_/g, "/"))).sub ?? token);
  } catch {
    return token;
  }
}
