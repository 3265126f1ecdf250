import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";

/** Limits of sizes after gzip, in bytes: all scripts, those of a run with its graph, and styles. */
const LIMITS = { all: 450_000, "run page": 190_000, css: 20_000 };

/** Write compressed copies beside the built files, so that the API never compresses. */
export function compress(): Plugin {
  let folder = "";
  return {
    name: "compress",
    apply: "build",
    configResolved: (config) => {
      folder = join(config.root, config.build.outDir);
      if (config.build.outDir.startsWith("/")) folder = config.build.outDir;
    },
    closeBundle: () => {
      const sizes = { all: 0, "run page": 0, css: 0 };
      for (const path of files(folder)) {
        const content = readFileSync(path);
        const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
        writeFileSync(`${path}.br`, brotliCompressSync(content, { params: quality }));
        const zipped = gzipSync(content, { level: 9 });
        writeFileSync(`${path}.gz`, zipped);
        if (path.endsWith(".css")) sizes.css += zipped.length;
        if (path.endsWith(".js")) sizes.all += zipped.length;
        if (/\/(index|GraphView)-[^/]*\.js$/.test(path)) sizes["run page"] += zipped.length;
      }
      for (const [name, limit] of Object.entries(LIMITS)) {
        const size = sizes[name as keyof typeof sizes];
        console.log(`${name}: ${size} bytes gzip of ${limit}`);
        if (size > limit) throw new Error(`${name} exceeds its size of ${limit} bytes`);
      }
    },
  };
}

function files(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(html|js|css|svg|json)$/.test(name))
    .map((name) => join(folder, name));
}
