import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import type { Plugin } from "vite";

/** Limits of sizes after gzip, in bytes: all scripts, those of a run with its graph, and styles. */
const LIMITS = { all: 450_000, "run page": 150_000, css: 20_000 };

/** Write compressed copies beside the built files, so that the API never compresses. */
export function compress(): Plugin {
  let folder = "";
  const ofRunPage = new Set<string>();
  return {
    name: "compress",
    apply: "build",
    configResolved: (config) => {
      folder = join(config.root, config.build.outDir);
      if (config.build.outDir.startsWith("/")) folder = config.build.outDir;
    },
    generateBundle: (_options, bundle) => {
      for (const chunk of Object.values(bundle))
        if (chunk.type === "chunk" && chunk.isEntry) ofRunPage.add(chunk.fileName);
      for (const name of ofRunPage) {
        const chunk = bundle[name];
        if (chunk?.type === "chunk") for (const each of chunk.imports) ofRunPage.add(each);
      }
    },
    closeBundle: () => {
      if (!ofRunPage.size) throw new Error("the scripts of a run page are unknown");
      const sizes = { all: 0, "run page": 0, css: 0 };
      for (const path of files(folder)) {
        const content = readFileSync(path);
        const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
        writeFileSync(`${path}.br`, brotliCompressSync(content, { params: quality }));
        const zipped = gzipSync(content, { level: 9 });
        writeFileSync(`${path}.gz`, zipped);
        if (path.endsWith(".css")) sizes.css += zipped.length;
        if (path.endsWith(".js")) sizes.all += zipped.length;
        if (ofRunPage.has(relative(folder, path))) sizes["run page"] += zipped.length;
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
