// Fail if a bundle exceeds its size. Dependencies of the page that uses it are not counted.
import { gzipSync } from "node:zlib";
import { rolldown } from "rolldown";

// What a page loads at once, and what it loads with all parts that run only on demand.
const LIMITS = [
  ["client", "packages/client/dist/index.js", 9_000, 16_000],
  ["client, worker", "packages/client/dist/worker.js", 9_300, 10_500],
  ["react", "packages/react/dist/index.js", 12_000, 18_500],
  ["react, elements", "packages/react/dist/elements.js", 15_000, 21_500],
];

const size = (chunks) =>
  chunks.reduce((sum, { code }) => sum + gzipSync(code, { level: 9 }).length, 0);

let isTooLarge = false;
for (const [name, input, atOnce, inAll] of LIMITS) {
  const bundle = await rolldown({ input, external: [/^react/], logLevel: "silent" });
  const { output } = await bundle.generate({ format: "esm", minify: true });
  const chunks = output.filter((each) => each.type === "chunk");
  const needed = new Set([chunks[0].fileName]);
  for (const fileName of needed)
    for (const each of chunks.find((chunk) => chunk.fileName === fileName)?.imports ?? [])
      needed.add(each);
  const first = size(chunks.filter((chunk) => needed.has(chunk.fileName)));
  const all = size(chunks);
  console.log(`${name}: ${first} bytes gzip at once (of ${atOnce}), ${all} in all (of ${inAll})`);
  isTooLarge ||= first > atOnce || all > inAll;
}
process.exitCode = isTooLarge ? 1 : 0;
