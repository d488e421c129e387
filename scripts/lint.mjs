// npm run lint: biome over TypeScript and JSON, clang-format over C++ and CUDA.
// npm run format (`--fix`) rewrites what can be rewritten. Paths given after it limit both.
import { filesUnder } from "./support/files.mjs";
import { ensureInstalled } from "./support/install.mjs";
import { fail, run, say, tool } from "./support/run.mjs";

const isFixing = process.argv.includes("--fix");
const paths = process.argv.slice(2).filter((argument) => argument !== "--fix");
const isWanted = (file) =>
  paths.length === 0 ||
  paths.some((path) => file === path || file.startsWith(`${path.replace(/\/$/, "")}/`));

ensureInstalled();
const biomeArguments = ["check", ...(isFixing ? ["--write"] : []), "--error-on-warnings"];
const biome = run(tool("biome"), [...biomeArguments, "--no-errors-on-unmatched", ...paths], {
  allowFailure: true,
});

const native = ["core", "cpu", "cuda", "binding", "test/simt", "bench"]
  .flatMap((folder) => filesUnder(folder, (path) => /\.(h|cc|cu|cuh|inc)$/.test(path)))
  .filter(isWanted);
const clangFormat =
  native.length === 0
    ? 0
    : run(tool("clang-format"), [...(isFixing ? ["-i"] : ["--dry-run", "-Werror"]), ...native], {
        allowFailure: true,
      });

if (biome !== 0 || clangFormat !== 0)
  fail("lint found problems; `npm run format` mends formatting");
say(`lint: biome is content, and clang-format with ${native.length} C++ and CUDA files`);
