import fc from "fast-check";
import { expect, test } from "vitest";
import { Parser } from "../src/parser.js";

interface Parsed {
  readonly blocks: [string, string, string][];
  readonly cursors: string[];
  readonly retries: number[];
  comments: number;
}

function parse(chunks: readonly Uint8Array[]): Parsed {
  const parsed: Parsed = { blocks: [], cursors: [], retries: [], comments: 0 };
  const parser = new Parser({
    block: (...block) => parsed.blocks.push(block),
    cursor: (id) => parsed.cursors.push(id),
    retry: (ms) => parsed.retries.push(ms),
    comment: () => {
      parsed.comments += 1;
    },
  });
  for (const chunk of chunks) parser.push(chunk);
  return parsed;
}

const bytes = (text: string) => new TextEncoder().encode(text);

test("mixed line ends separate lines, wherever chunks are cut", () => {
  const text = "event: a\r\ndata: 1\rdata: 2\nid: x\r\n\r\n: hi\r\rdata: 3\n\n";
  const expected: Parsed = {
    blocks: [
      ["a", "1\n2", "x"],
      ["message", "3", ""],
    ],
    cursors: ["x"],
    retries: [],
    comments: 1,
  };
  for (let cut = 0; cut <= text.length; cut++)
    expect(parse([bytes(text.slice(0, cut)), bytes(text.slice(cut))])).toEqual(expected);
  expect(parse([...text].map(bytes))).toEqual(expected);
});

test("an id with NUL is ignored", () => {
  expect(parse([bytes("id: a\0b\ndata: 1\n\n")]).blocks).toEqual([["message", "1", ""]]);
});

test("a byte order mark is no part of the first field", () => {
  expect(parse([bytes("\uFEFFdata: 1\n\n")]).blocks).toEqual([["message", "1", ""]]);
});

test("characters that are split between chunks stay whole", () => {
  const text = bytes("data: Grüße 🎉\n\n");
  for (let cut = 0; cut <= text.length; cut++)
    expect(parse([text.slice(0, cut), text.slice(cut)]).blocks[0]?.[1]).toBe("Grüße 🎉");
});

test("the cursor moves at the end of a block, not at its id", () => {
  expect(parse([bytes("data: 1\nid: x\n")])).toMatchObject({ blocks: [], cursors: [] });
  expect(parse([bytes("id: x\n\n")])).toMatchObject({ blocks: [], cursors: ["x"] });
});

test("a block may be longer than any chunk", () => {
  const long = "x".repeat(300_000);
  const text = bytes(`data: ${long}\n\n`);
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < text.length; at += 1_000) chunks.push(text.slice(at, at + 1_000));
  expect(parse(chunks).blocks[0]?.[1]).toBe(long);
});

test("only digits are a retry", () => {
  expect(parse([bytes("retry: 12\nretry: 1x\nretry:\n")]).retries).toEqual([12]);
});

test("chunks do not matter", () => {
  const piece = fc.constantFrom("data: a", "data", "id: 1", "id", ":", "é", "\r", "\n", "\r\n", "");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), fc.array(fc.nat(200)), (pieces, cuts) => {
      const all = bytes(pieces.join(""));
      const at = [...new Set(cuts.filter((cut) => cut < all.length))].sort((a, b) => a - b);
      const chunks = [0, ...at].map((from, index) => all.slice(from, at[index] ?? all.length));
      expect(parse(chunks)).toEqual(parse([all]));
    }),
  );
});
