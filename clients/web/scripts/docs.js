// Check the types of the examples in docs/web.md.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const FOLDER = "build/examples";
const page = readFileSync("../../docs/web.md", "utf8");
const examples = [...page.matchAll(/^```(tsx?)\n([\s\S]*?)^```$/gm)];
if (examples.length < 3) throw new Error("docs/web.md has lost its examples");

rmSync(FOLDER, { recursive: true, force: true });
mkdirSync(FOLDER, { recursive: true });
for (const [index, [, extension, code]] of examples.entries())
  writeFileSync(`${FOLDER}/example${index}.${extension}`, code);
const compilerOptions = {
  ...{ composite: false, declaration: false, declarationMap: false, noEmit: true },
  ...{ module: "ESNext", moduleResolution: "Bundler" },
};
const config = { extends: "../../tsconfig.base.json", compilerOptions, include: ["."] };
writeFileSync(`${FOLDER}/tsconfig.json`, JSON.stringify(config));
try {
  execFileSync("npx", ["tsc", "-p", FOLDER], { stdio: "inherit" });
  console.log(`docs/web.md: ${examples.length} examples compile`);
} catch {
  process.exitCode = 1;
} finally {
  rmSync(FOLDER, { recursive: true, force: true });
}
