import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = (name: string) => fileURLToPath(new URL(`./packages/${name}/src/`, import.meta.url));

// Tests run the sources of the packages, not what was built from them.
export default defineConfig({
  resolve: {
    alias: [
      { find: /^@tailrace\/client$/, replacement: `${source("client")}index.ts` },
      { find: /^@tailrace\/react$/, replacement: `${source("react")}index.ts` },
      { find: /^@tailrace\/react\/(.*)$/, replacement: `${source("react")}$1.ts` },
    ],
  },
  test: {
    include: ["packages/*/test/**/*.test.{ts,tsx}"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
