// @vitest-environment jsdom
import { afterEach, expect, test, vi } from "vitest";
import { copy } from "../src/ui/copy.ts";
import { Command, Confirmed, Sheet, Toasts } from "../src/ui/parts.tsx";
import { click, find, render, shown } from "./browser.tsx";

afterEach(() => {
  vi.unstubAllGlobals();
});

test("a sheet shows what its command has failed with", async () => {
  const refused = () => Promise.reject(new Error("it has ended"));
  await render(
    <>
      <Sheet title="Cancel?" onClose={() => {}} foot={<Command run={refused}>Yes</Command>}>
        <p>Really?</p>
      </Sheet>
      <Toasts />
    </>,
  );
  await click("Yes");
  await shown("dialog .failure", "it has ended");
  expect(find(".toast", "it has ended")).toBeUndefined();
});

test("a command that must be confirmed is not sent before", async () => {
  const run = vi.fn(async () => {});
  await render(
    <Confirmed run={run} done="Deleted" question="Delete it?" text="For good." yes="Delete">
      Bin
    </Confirmed>,
  );
  await click("Bin");
  await shown("dialog", "For good.");
  expect(run).not.toHaveBeenCalled();
  await click("Delete");
  await vi.waitFor(() => expect(find("dialog")).toBeUndefined());
  expect(run).toHaveBeenCalledOnce();
});

test("a text is copied without a clipboard, and a refusal is told", async () => {
  await render(<Toasts />);
  vi.stubGlobal("navigator", { clipboard: undefined });
  let selected = "";
  document.execCommand = () => {
    selected = (document.activeElement as HTMLTextAreaElement).value;
    return true;
  };
  await copy("text", "Copied");
  expect(selected).toBe("text");
  await shown(".toast.is-active", "Copied");
  document.execCommand = () => false;
  await copy("text", "Copied");
  await shown(".toast.is-error", "does not let the page copy");
  vi.stubGlobal("navigator", { clipboard: { writeText: () => Promise.reject(new Error()) } });
  document.execCommand = () => true;
  selected = "";
  await copy("other", "Copied again");
  await shown(".toast.is-active", "Copied again");
});
