/** Clients by their options, so that everything on a page that has equal options shares one. */

import { type ClientOptions, createClient, type TailraceClient } from "@tailrace/client";

const clients = new Map<string, TailraceClient>();

/** Return the client of some options: the same one for equal options. */
export function clientOf(options: ClientOptions): TailraceClient {
  const key = JSON.stringify(options);
  const client = clients.get(key) ?? createClient(options);
  clients.set(key, client);
  return client;
}
