/** What the blocks expect of their applications. */

import type { PropsWithChildren } from "react";

export const API_URL = "";

export interface POProgress {
  readonly id: string;
  progress: number;
  stage: string;
}

export const Card = ({ children }: PropsWithChildren) => <section>{children}</section>;
export const Wifi = ({ className }: { className: string }) => <i className={className} />;
export const WifiOff = Wifi;

/** Resolved when the streams of paused workflows have begun: what pauses later is an event. */
const begun: Promise<unknown>[] = [];

globalThis.EventSource = class extends EventSource {
  constructor(url: string | URL, options?: EventSourceInit) {
    super(url, options);
    if (String(url).endsWith("paused-stream"))
      begun.push(new Promise((resolve) => this.addEventListener("paused.initial", resolve)));
  }
};

export const pausingWorkflow = { id: "approval" };
export const registry = {};

export async function executeWorkflow({ id }: typeof pausingWorkflow, _registry: object) {
  await Promise.all(begun);
  const body = JSON.stringify({ workflowId: id });
  const headers = { "Content-Type": "application/json" };
  await fetch("/api/workflow/execute", { method: "POST", headers, body });
}

const tests: (() => Promise<void>)[] = [];

/** Run the tests that have been described. */
export async function runTests(): Promise<void> {
  for (const test of tests) await test();
}

export const describe = (_name: string, define: () => void) => define();
export const it = (_name: string, test: () => Promise<void>) => void tests.push(test);

export async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}

class Any {
  readonly type: StringConstructor;
  constructor(type: StringConstructor) {
    this.type = type;
  }
}

export const expect = Object.assign(
  (value: Readonly<Record<string, unknown>>) => ({
    toMatchObject(pattern: Readonly<Record<string, unknown>>) {
      for (const [name, wanted] of Object.entries(pattern)) {
        const isEqual =
          wanted instanceof Any
            ? typeof value[name] === wanted.type.name.toLowerCase()
            : value[name] === wanted;
        if (!isEqual) throw new Error(`${name} is ${JSON.stringify(value[name])}`);
      }
    },
  }),
  { any: (type: StringConstructor) => new Any(type) },
);
