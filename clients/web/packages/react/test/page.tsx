/** A page whose components follow a world of the client's tests. */

import type { TailraceClient } from "@tailrace/client";
import { act, type ReactNode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { World } from "../../client/test/world.js";
import { TailraceProvider } from "../src/index.js";

declare global {
  var IS_REACT_ACT_ENVIRONMENT: boolean;
}
globalThis.IS_REACT_ACT_ENVIRONMENT = true;

export class Page {
  readonly world = new World();
  readonly client: TailraceClient = this.world.client({ organization: "shop" });
  readonly element = document.body.appendChild(document.createElement("main"));
  readonly #root: Root = createRoot(this.element);

  async render(children: ReactNode): Promise<void> {
    await act(async () => {
      this.#root.render(<TailraceProvider client={this.client}>{children}</TailraceProvider>);
    });
    await this.pass(0);
  }

  async pass(ms: number): Promise<void> {
    await act(() => this.world.pass(ms));
  }

  /** Do something that changes components. */
  async do(run: () => void): Promise<void> {
    await act(async () => run());
  }

  async unmount(): Promise<void> {
    await act(async () => this.#root.unmount());
    this.element.remove();
  }

  get text(): string {
    return this.element.textContent ?? "";
  }

  async click(label: string): Promise<void> {
    const button = [...this.element.querySelectorAll("button")].find(
      (each) => each.textContent === label,
    );
    if (button === undefined) throw new Error(`no button ${label} in ${this.element.innerHTML}`);
    await act(async () => button.click());
    await this.pass(20);
  }

  /** The newest request that is no stream. */
  get request() {
    const request = this.world.connections.filter((each) => !this.world.streams.includes(each));
    const last = request.at(-1);
    if (last === undefined) throw new Error("nothing was requested");
    return last;
  }
}

/** Send a block of a dedicated stream. */
export function block(page: Page, event: string, data: unknown, id = ""): void {
  const name = event === "message" ? "" : `event: ${event}\n`;
  page.world.stream.send(`${name}data: ${JSON.stringify(data)}\n${id ? `id: ${id}\n` : ""}\n`);
}
