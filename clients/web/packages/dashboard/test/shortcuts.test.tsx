// @vitest-environment jsdom
import { expect, test } from "vitest";
import { useShortcuts } from "../src/shortcuts.ts";
import { render } from "./browser.tsx";

const noPage = () => undefined;
const noHelp = () => {};
const press = (key: string, more: KeyboardEventInit = {}) =>
  dispatchEvent(new KeyboardEvent("keydown", { key, ...more }));

let decided: string[] = [];

function Page({ isOpen }: { isOpen: boolean }) {
  useShortcuts(noPage, noHelp);
  return (
    <>
      <button type="button" data-key="a" onClick={() => decided.push("a")} />
      <button type="button" data-key="r" onClick={() => decided.push("r")} />
      <dialog open={isOpen} />
    </>
  );
}

async function pressed(isOpen: boolean, ...keys: [string, KeyboardEventInit?][]) {
  decided = [];
  await render(<Page isOpen={isOpen} />);
  await new Promise((resolve) => setTimeout(resolve));
  for (const [key, more] of keys) press(key, more);
  return decided;
}

test("keys decide", async () => {
  expect(await pressed(false, ["a"], ["r"])).toEqual(["a", "r"]);
});

test("no key decides behind an open dialog", async () => {
  expect(await pressed(true, ["a"], ["r"])).toEqual([]);
});

test("a key that is held down decides once", async () => {
  expect(await pressed(false, ["a"], ["a", { repeat: true }])).toEqual(["a"]);
});
