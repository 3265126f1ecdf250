// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Boundary } from "../src/ui/Boundary.tsx";
import { find, render, shown } from "./browser.tsx";

const { location } = globalThis;
const reload = vi.fn();

beforeEach(() => {
  sessionStorage.clear();
  reload.mockClear();
  vi.spyOn(console, "error").mockImplementation(() => {});
  vi.stubGlobal("location", { ...location, href: location.href, reload });
});

afterEach(() => {
  vi.unstubAllGlobals();
});

function Failing({ error }: { error: Error | null }) {
  if (error) throw error;
  return <p>well</p>;
}

const page = (error: Error | null, place = "runs") => (
  <Boundary place={place}>
    <Failing error={error} />
  </Boundary>
);

const unloaded = new TypeError("Failed to fetch dynamically imported module: /assets/a.js");

test("a page that fails says so, and a reload is offered", async () => {
  await render(page(new Error("broken")));
  await shown("[role=alert]", "broken");
  find("button", "Reload")?.click();
  expect(reload).toHaveBeenCalledOnce();
});

test("a script of an older build is loaded anew once, not in a loop", async () => {
  vi.stubGlobal("fetch", async () => new Response());
  await render(page(unloaded));
  await vi.waitFor(() => expect(reload).toHaveBeenCalledOnce());
  await render(page(unloaded));
  await shown("[role=alert]", "did not load");
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(reload).toHaveBeenCalledOnce();
});

test("a page is not left while the API does not answer", async () => {
  vi.stubGlobal("fetch", async () => {
    throw new TypeError("Failed to fetch");
  });
  await render(page(unloaded));
  await shown("[role=alert]", "did not load");
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(reload).not.toHaveBeenCalled();
});
