/**
 * The events of runs that this browser has shown, and the position of the stream after them: what a
 * reload begins with. The events are as the API sent them, so secrets are masked.
 *
 * Whatever fails, nothing is kept, and a page begins with the run's events from the API.
 */
import type { RunEvent } from "../run/fold.ts";

/** A run as it was kept. */
export interface Kept {
  /** Which of the times it was kept: its parts belong to one of them. */
  edition: string;
  /** The position of the stream after the events. */
  cursor: string;
  events: RunEvent[];
  /** The size of each part, in characters. */
  sizes: number[];
}

/** The head of a kept run; its events are in parts of their own. */
interface Head {
  key: string;
  edition: string;
  cursor: string;
  count: number;
  at: number;
}

const NAME = "tailrace";
/** Of what is stored. A database of another one is emptied. */
const SCHEMA = 1;
const HEADS = "runs";
const PARTS = "events";
const PART_EVENTS = 256;
/** Parts that are written at once while the page is used. */
const BATCH = 4;
const MAX_RUNS = 20;
const MAX_CHARS = 8 * 1024 * 1024;
const MAX_AGE_MS = 24 * 3_600_000;
const EVERY_MS = 1_000;

/** Keeps runs of one user of one API. */
export class KeptRuns {
  readonly #scope: string;
  #opened: Promise<IDBDatabase> | null = null;
  #database: IDBDatabase | null = null;
  #isForgotten = false;

  /** @param scope the address of the API, the organization and the user. */
  constructor(scope: string) {
    this.#scope = scope;
  }

  /** Return a run; null if it was not kept, not completely, or too long ago. */
  async recall(execution: string): Promise<Kept | null> {
    try {
      const database = await this.#open();
      const key = this.#key(execution);
      const reading = database.transaction([HEADS, PARTS]);
      const head: Head | undefined = await answer(reading.objectStore(HEADS).get(key));
      if (!head || head.at < Date.now() - MAX_AGE_MS) return null;
      const range = editionOf(key, head.edition);
      const texts: string[] = await answer(reading.objectStore(PARTS).getAll(range));
      const { edition, cursor, count } = head;
      const events = texts.flatMap((text) => JSON.parse(text) as RunEvent[]).slice(0, count);
      if (events.length < count || events[0]?.data.execution_id !== execution) return null;
      return { edition, cursor, events, sizes: texts.map(({ length }) => length) };
    } catch {
      return null;
    }
  }

  /** Return what keeps a run while it is followed. */
  keeper(execution: string, from: Kept | null): Keeper {
    return new Keeper(this, this.#key(execution), from);
  }

  /** Forget all runs of all users of this browser, and keep no more. */
  async forget(): Promise<void> {
    this.#isForgotten = true;
    try {
      const writing = (await this.#open()).transaction([HEADS, PARTS], "readwrite");
      writing.objectStore(HEADS).clear();
      writing.objectStore(PARTS).clear();
      await ended(writing);
    } catch {
      // Nothing was kept.
    }
  }

  /** Begin to write; null where that is not possible, or not at once while the page is left. */
  async begin(): Promise<IDBTransaction | null> {
    return this.now(await this.#open());
  }

  now(database = this.#database): IDBTransaction | null {
    if (this.#isForgotten || !database) return null;
    return database.transaction([HEADS, PARTS], "readwrite");
  }

  #key(execution: string): string {
    return `${this.#scope} ${execution}`;
  }

  #open(): Promise<IDBDatabase> {
    this.#opened ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(NAME, SCHEMA);
      request.onupgradeneeded = () => {
        const database = request.result;
        for (const name of [...database.objectStoreNames]) database.deleteObjectStore(name);
        database.createObjectStore(HEADS, { keyPath: "key" });
        database.createObjectStore(PARTS);
      };
      request.onsuccess = () => {
        const database = request.result;
        // Another version of this page may have to change it.
        database.onversionchange = () => database.close();
        this.#database = database;
        resolve(database);
      };
      request.onerror = () => reject(request.error);
      request.onblocked = () => reject(new Error("another page keeps it"));
    });
    return this.#opened;
  }
}

/** Writes the events of one run, at most once a second, while the page has nothing else to do. */
export class Keeper {
  readonly #runs: KeptRuns;
  readonly #key: string;
  #edition: string;
  #sizes: number[];
  /** Events that are written. */
  #written: number;
  /** Whether parts of other editions may be there. */
  #isNew: boolean;
  #events: readonly RunEvent[] = [];
  #count = 0;
  #cursor = "";
  #isOver = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isWriting = false;

  constructor(runs: KeptRuns, key: string, from: Kept | null) {
    this.#runs = runs;
    this.#key = key;
    this.#edition = from?.edition ?? newEdition();
    this.#sizes = from?.sizes ?? [];
    this.#written = from?.events.length ?? 0;
    this.#isNew = from === null;
  }

  /** Note the position after all of these events. */
  note(events: readonly RunEvent[], cursor: string): void {
    const hasGrown = events.length > this.#count;
    this.#events = events;
    this.#count = events.length;
    this.#cursor = cursor;
    if (hasGrown && this.#count > this.#written) this.#soon();
  }

  /** The events are void: others follow. */
  drop(): void {
    this.#edition = newEdition();
    this.#sizes = [];
    this.#written = this.#count = 0;
    this.#isNew = true;
    this.#isOver = false;
    void this.#erase();
  }

  /**
   * Write what is not written.
   *
   * @param isLast whether the page is left, and has no time to wait for anything.
   */
  flush(isLast: boolean): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (!this.#count || this.#isOver) return;
    try {
      const writing = this.#runs.now();
      if (!writing) return;
      this.#put(writing, Number.POSITIVE_INFINITY);
      if (isLast) writing.commit?.();
      else prune(writing);
    } catch {
      // Nothing is kept.
    }
  }

  #soon(): void {
    if (this.#timer !== undefined || this.#isWriting || this.#isOver) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#write();
    }, EVERY_MS);
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    try {
      for (let isDone = false; !isDone && !this.#isOver; ) {
        await idle();
        const writing = await this.#runs.begin();
        if (!writing) return;
        isDone = this.#put(writing, BATCH);
        if (isDone) prune(writing);
        await ended(writing);
      }
    } catch {
      this.#isOver = true;
    } finally {
      this.#isWriting = false;
    }
    if (this.#count > this.#written) this.#soon();
  }

  /** Put the next parts; return whether that were all of them, with the head. */
  #put(writing: IDBTransaction, limit: number): boolean {
    const [heads, parts] = [writing.objectStore(HEADS), writing.objectStore(PARTS)];
    if (this.#isNew) parts.delete(allOf(this.#key));
    this.#isNew = false;
    let part = Math.floor(this.#written / PART_EVENTS);
    for (let put = 0; put < limit && part * PART_EVENTS < this.#count; put++, part++) {
      const end = Math.min(this.#count, (part + 1) * PART_EVENTS);
      const text = JSON.stringify(this.#events.slice(part * PART_EVENTS, end));
      parts.put(text, [this.#key, this.#edition, part]);
      this.#sizes[part] = text.length;
      this.#written = end;
    }
    if (this.#sizes.reduce((sum, size) => sum + size, 0) > MAX_CHARS) {
      this.#isOver = true;
      heads.delete(this.#key);
      parts.delete(allOf(this.#key));
      return true;
    }
    if (this.#written < this.#count) return false;
    const head: Head = {
      key: this.#key,
      edition: this.#edition,
      cursor: this.#cursor,
      count: this.#count,
      at: Date.now(),
    };
    heads.put(head);
    return true;
  }

  async #erase(): Promise<void> {
    try {
      const writing = await this.#runs.begin();
      writing?.objectStore(HEADS).delete(this.#key);
    } catch {
      // Nothing was kept.
    }
  }
}

/** Delete all but the newest runs. */
function prune(writing: IDBTransaction): void {
  const [heads, parts] = [writing.objectStore(HEADS), writing.objectStore(PARTS)];
  const request: IDBRequest<Head[]> = heads.getAll();
  request.onsuccess = () => {
    const newest = request.result.sort((one, other) => other.at - one.at);
    const tooOld = Date.now() - MAX_AGE_MS;
    for (const { key } of newest.filter(({ at }, index) => index >= MAX_RUNS || at < tooOld)) {
      heads.delete(key);
      parts.delete(allOf(key));
    }
  };
}

const newEdition = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

// Lists are sorted behind numbers and texts.
const allOf = (key: string) => IDBKeyRange.bound([key], [key, []]);
const editionOf = (key: string, edition: string) =>
  IDBKeyRange.bound([key, edition], [key, edition, []]);

function answer<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function ended(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
}

/** Wait until the page has nothing to do, at most a second. */
function idle(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof requestIdleCallback === "undefined") setTimeout(resolve);
    else requestIdleCallback(() => resolve(), { timeout: EVERY_MS });
  });
}
