import { useEffect, useMemo, useSyncExternalStore } from "react";
import { Store } from "./store.ts";

/** What `useStore` reads: a store of this page or of the client. */
export interface Readable<T> {
  get(): T;
  subscribe(reader: () => void): () => void;
}

export function useStore<T>(store: Readable<T>): T {
  return useSyncExternalStore(store.subscribe, store.get);
}

export function useSelected<T, S>(store: Readable<T>, select: (value: T) => S): S {
  return useSyncExternalStore(store.subscribe, () => select(store.get()));
}

/** A store that one component follows, closed when the component is gone. */
export function useOwned<T extends { start: () => () => void }>(make: () => T, key: string): T {
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for what `make` reads
  const owned = useMemo(make, [key]);
  useEffect(() => owned.start(), [owned]);
  return owned;
}

const clock = new Store(Date.now());
setInterval(() => clock.set(Date.now()), 1_000);

export const useNow = (): number => useStore(clock);
