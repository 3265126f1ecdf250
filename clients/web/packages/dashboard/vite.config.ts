import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { compress } from "./compress.ts";

const api = process.env.TAILRACE_URL ?? "http://127.0.0.1:8080";
const source = (name: string) => fileURLToPath(new URL(`../${name}/src/index.ts`, import.meta.url));

export default defineConfig({
  // Relative, so that the page works under any path of a proxy.
  base: "./",
  plugins: [react(), compress()],
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
