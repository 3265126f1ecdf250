/** The client of a page's hooks. */

import type { Reducer, Source, Store, TailraceClient } from "@tailrace/client";
import {
  createContext,
  createElement,
  type ReactNode,
  useContext,
  useSyncExternalStore,
} from "react";
import { clientOf } from "./clients.js";

const Context = createContext<TailraceClient | null>(null);

export interface TailraceProviderProps {
  readonly client: TailraceClient;
  readonly children?: ReactNode;
}

/** Make a client available to the hooks below it. Without one they share a default client. */
export function TailraceProvider({ client, children }: TailraceProviderProps) {
  return createElement(Context.Provider, { value: client }, children);
}

/** Return the client of the nearest provider. */
export function useClient(): TailraceClient {
  return useContext(Context) ?? clientOf({});
}

/** Return the present value of a store, and render again when it changes. */
export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, store.get, store.initial);
}

/** Follow sources by a reducer that is declared once. */
export function useView<T>(
  client: TailraceClient,
  sources: readonly Source[],
  reducer: () => Reducer<T>,
): T {
  return useStore(client.view(sources, reducer));
}

/** Return a client for a path or an address, and the path: an address has a client of its own. */
export function useEndpoint(endpoint: string): [TailraceClient, string] {
  const client = useClient();
  if (endpoint.startsWith("/")) return [client, endpoint];
  const { origin, pathname, search } = new URL(endpoint);
  const { token, ...options } = client.options;
  const own = { ...options, ...(typeof token === "string" ? { token } : {}), baseUrl: origin };
  return [clientOf(own), pathname + search];
}
