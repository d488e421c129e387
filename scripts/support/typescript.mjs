// Bundling TypeScript: the library into dist/, and any single program for running it here.
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { filesUnder, hashOf } from "./files.mjs";
import { root, run, say, tool } from "./run.mjs";
import { isFresh, markFresh } from "./stamp.mjs";

/** Bundles lib/ into dist/, unless it is already there from the same sources. */
export function ensureDist() {
  const configs = ["tsdown.config.ts", "tsconfig.json", "tsconfig.build.json", "package-lock.json"];
  const hash = hashOf(["lib", "package.json", ...configs]);
  const outputs = ["dist/index.mjs", "dist/index.cjs", "dist/index.d.mts", "dist/cli/main.mjs"];
  if (isFresh("dist", hash, outputs)) return;
  say("bundling lib/ into dist/");
  rmSync(join(root, "dist"), { recursive: true, force: true });
  run(tool("tsdown"), ["--log-level", "warn"]);
  markFresh("dist", hash);
}

/** Lets bundled code see the address of its own source file, as if it ran where it lies. */
const inPlace = {
  name: "spindlekv:in-place",
  transform(code, id) {
    if (id.includes("node_modules") || !code.includes("import.meta.")) return undefined;
    return code
      .replaceAll("import.meta.url", JSON.stringify(pathToFileURL(id).href))
      .replaceAll("import.meta.dirname", JSON.stringify(join(id, "..")));
  },
};

/**
 * Bundles one TypeScript program with everything of the repository it imports, and returns the path
 * of the result. Worker threads and child processes that it starts are bundled by their own call.
 */
export async function bundleProgram(source) {
  if (!existsSync(join(root, source))) throw new Error(`${source} does not exist`);
  const { build } = await import("tsdown");
  const name = source.replace(/\.ts$/, "");
  await build({
    config: false,
    cwd: root,
    entry: { [name]: source },
    outDir: "build/ts",
    format: "esm",
    outExtensions: () => ({ js: ".mjs" }),
    dts: false,
    clean: false,
    logLevel: "warn",
    platform: "node",
    target: "node20.17",
    tsconfig: "tsconfig.json",
    alias: {
      "spindlekv/eval": join(root, "lib/eval/index.ts"),
      "spindlekv/runtimes/gguf-llama": join(root, "lib/runtimes/gguf-llama/index.ts"),
      spindlekv: join(root, "lib/index.ts"),
    },
    plugins: [inPlace],
  });
  return join(root, "build/ts", `${name}.mjs`);
}

/** Every TypeScript file that is ours, for checks that read imports. */
export function typescriptFiles() {
  return ["lib", "test", "bench", "examples"].flatMap((folder) =>
    filesUnder(folder, (path) => path.endsWith(".ts")),
  );
}
