import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";
import { compress } from "./compress.ts";

const api = process.env.TAILRACE_URL ?? "http://127.0.0.1:8080";
const source = (name: string) => fileURLToPath(new URL(`../${name}/src/index.ts`, import.meta.url));

interface Modules {
  getModuleInfo(id: string): { isEntry: boolean; importers: readonly string[] } | null;
}

/** Put what every page loads into one file: dozens of small ones wait for each other. */
function pageOf(id: string, modules: Modules, seen = new Set<string>()): string | null {
  if (seen.has(id)) return null;
  seen.add(id);
  const info = modules.getModuleInfo(id);
  if (!info) return null;
  if (info.isEntry) return "page";
  return info.importers.some((each) => pageOf(each, modules, seen)) ? "page" : null;
}

/** Let Chromium compile what every page loads while it arrives, not each function at its first call. */
function compileEarly(): Plugin {
  return {
    name: "compile-early",
    generateBundle: {
      order: "post",
      handler: (_options, bundle) => {
        for (const chunk of Object.values(bundle))
          if (chunk.type === "chunk" && ["start", "page"].includes(chunk.name))
            chunk.code = `//# allFunctionsCalledOnLoad\n${chunk.code}`;
      },
    },
  };
}

export default defineConfig({
  // Relative, so that the page works under any path of a proxy.
  base: "./",
  plugins: [react(), compileEarly(), compress()],
  resolve: {
    alias: {
      "@tailrace/client": source("client"),
      "@tailrace/react": source("react"),
      // @rjsf/core exports a registry for tests, which imports it.
      "@rjsf/validator-ajv8": fileURLToPath(new URL("src/ui/noValidator.ts", import.meta.url)),
    },
  },
  build: {
    target: "es2022",
    emptyOutDir: true,
    // The policy allows no data: or blob: scripts, and one small image costs one request.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            // With all that it imports: it begins while the rest is loaded.
            { name: "start", test: /\/src\/start\.ts$/, priority: 1 },
            { name: pageOf, debugName: "page" },
          ],
        },
      },
    },
  },
  worker: { format: "es" },
  server: {
    proxy: {
      "^/(api|ui-api|pipeline|docs|openapi.json|healthz|readyz)": {
        target: api,
        changeOrigin: true,
      },
    },
  },
});
