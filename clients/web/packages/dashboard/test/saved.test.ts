import { expect, test } from "vitest";
import { MAX_BYTES, pageOf, type SavedRun } from "../src/saved/page.ts";

const parts = { script: "play()", style: "a{}", nonce: "abc" };

function saved(output: string, count = 1): SavedRun {
  const events = Array.from({ length: count }, () => ({
    type: "step:completed",
    timestamp: "2026-01-01T00:00:00.000Z",
    data: { node_id: "a", output, workflow_name: "<b>" },
  }));
  const graph = { nodes: [], edges: [], layers: [] } as unknown as SavedRun["graph"];
  return { events, graph, places: [], savedAt: "2026-01-01T00:00:00.000Z", isShortened: false };
}

const dataOf = (page: string): SavedRun =>
  JSON.parse(/id="run">(.*)<\/script>\n<script type="module"/.exec(page)?.[1] ?? "") as SavedRun;

test("values cannot end the element that they stand in, and may run nothing", () => {
  const value = "</script><script>alert(1)</script>";
  const page = pageOf(saved(value), parts) ?? "";
  expect(page.match(/<script/g)).toHaveLength(2);
  expect(page).toContain("<title>&lt;b&gt;");
  expect(page).toContain("default-src 'none'; script-src 'nonce-abc'");
  expect(dataOf(page).events[0]?.data.output).toBe(value);
});

test("a file that would be too large has no large values", () => {
  const page = pageOf(saved("x".repeat(MAX_BYTES / 2), 3), parts) ?? "";
  expect(page.length).toBeLessThan(10_000);
  expect(dataOf(page).isShortened).toBe(true);
  expect(dataOf(page).events[0]?.data.output).toBe("left out of this file");
});

test("a run that is too large without its values is refused", () => {
  expect(pageOf(saved("x".repeat(900), MAX_BYTES / 800), parts)).toBeNull();
});
