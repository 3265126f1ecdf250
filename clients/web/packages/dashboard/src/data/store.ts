/** A value that readers follow. Changes reach them once per animation frame. */
export class Store<T> {
  #value: T;
  #next: T;
  #frame = 0;
  #shownAt = 0;
  readonly #restMs: (value: T) => number;
  readonly #readers = new Set<() => void>();

  /**
   * @param restMs how long a value is shown at least; a page of thousands of parts cannot be
   * rendered in every frame.
   */
  constructor(value: T, restMs: (value: T) => number = () => 0) {
    this.#restMs = restMs;
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
    const rest = document.hidden ? 100 : this.#shownAt + this.#restMs(value) - performance.now();
    this.#frame ||=
      rest > 0 ? window.setTimeout(this.#show, rest) : requestAnimationFrame(this.#show);
  }

  #show = (): void => {
    this.#frame = 0;
    this.#shownAt = performance.now();
    this.#value = this.#next;
    for (const reader of this.#readers) reader();
  };

  subscribe = (reader: () => void): (() => void) => {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  };
}
