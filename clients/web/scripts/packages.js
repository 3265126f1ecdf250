// Check what would be published: publint for the manifests, arethetypeswrong for the types.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";

// The packages are ESM only: Node 20 cannot `require` them, and old resolution knows no `exports`.
const NOT_SUPPORTED = new Set(["node10", "node16-cjs"]);
const problems = [];

for (const name of readdirSync("packages")) {
  const pkgDir = join("packages", name);
  const manifest = JSON.parse(readFileSync(join(pkgDir, "package.json"), "utf8"));
  if (manifest.private) continue;
  const { messages } = await publint({ pkgDir, strict: true, pack: false });
  for (const message of messages) problems.push(`${name}: ${formatMessage(message, manifest)}`);

  const folder = mkdtempSync(join(tmpdir(), "tailrace-pack-"));
  execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: pkgDir });
  const [tarball] = readdirSync(folder);
  const data = createPackageFromTarballData(readFileSync(join(folder, tarball)));
  rmSync(folder, { recursive: true });
  const analysis = await checkPackage(data);
  for (const problem of analysis.problems ?? [])
    if (!NOT_SUPPORTED.has(problem.resolutionKind) && problem.resolutionOption !== "node10")
      problems.push(`${name}: ${problem.kind} ${JSON.stringify(problem)}`);
  console.log(`${manifest.name}: checked`);
}

for (const problem of problems) console.error(problem);
process.exitCode = problems.length ? 1 : 0;
