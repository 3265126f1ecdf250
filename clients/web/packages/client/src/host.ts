/** The clock, the chance and the network of a page, a worker, or a test. */

export interface Host {
  /** Unix time in ms. */
  now(): number;
  /** Uniform in [0, 1). */
  random(): number;
  /** Call `run` once after `ms`; return how to cancel it. */
  timer(run: () => void, ms: number): () => void;
  /** Call `run` before the next paint, or soon where nothing is painted. */
  frame(run: () => void): void;
  fetch(url: string, init: RequestInit): Promise<Response>;
}

/** Hidden pages paint no frames, and their timers still run. */
const NO_FRAME_MS = 100;

export function browserHost(request?: typeof fetch): Host {
  const timer: Host["timer"] = (run, ms) => {
    const id = setTimeout(run, ms);
    return () => clearTimeout(id);
  };
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    timer,
    frame(run) {
      if (typeof requestAnimationFrame !== "function") return void timer(run, 0);
      let isDue = true;
      const once = () => {
        if (isDue) run();
        isDue = false;
      };
      requestAnimationFrame(once);
      timer(once, NO_FRAME_MS);
    },
    fetch: (url, init) => (request ?? fetch)(url, init),
  };
}
