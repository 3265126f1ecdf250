import { useEffect, useMemo, useSyncExternalStore } from "react";

/** A value that readers follow. Changes reach them once per animation frame. */
export class Store<T> {
  #value: T;
  #next: T;
  #frame = 0;
  readonly #readers = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
    this.#next = value;
  }

  get = (): T => this.#value;

  /** The newest value, also before readers have it. */
  get newest(): T {
    return this.#next;
  }

  set(value: T): void {
    this.#next = value;
    // A hidden page has no frames, and must not keep old values for hours.
    this.#frame ||= document.hidden
      ? window.setTimeout(this.#show, 100)
      : requestAnimationFrame(this.#show);
  }

  #show = (): void => {
    this.#frame = 0;
    this.#value = this.#next;
    for (const reader of this.#readers) reader();
  };

  subscribe = (reader: () => void): (() => void) => {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  };
}

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
