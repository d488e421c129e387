// Checks the package as a user gets it: packs it, has publint and attw look at it, installs the
// tarball in an empty folder and uses it from ESM, CommonJS and the command line there.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureInstalled } from "./support/install.mjs";
import { makePrebuilds, pack } from "./support/prebuild.mjs";
import { root, run, say, tool } from "./support/run.mjs";
import { ensureDist } from "./support/typescript.mjs";

/** A small op on the CPU: two slots whose keys equal the query, so the output is their mean. */
const kUse = `
  const device = await openDevice("cpu");
  const cache = new KVCache(device, {
    layers: 1, queryHeads: 1, kvHeads: 1, headDim: 8, dtype: "f32", method: full(),
  });
  const rows = (...values) => values.flatMap((value) => Array(8).fill(value));
  const keys = Tensor.from(device, "f32", [1, 2, 8], rows(1, 1));
  const values = Tensor.from(device, "f32", [1, 2, 8], rows(1, 3));
  const query = Tensor.from(device, "f32", [1, 1, 8], rows(1));
  const out = Tensor.zeros(device, "f32", [1, 1, 8]);
  const [layer] = cache.layers;
  layer.append(keys, values);
  layer.attend(query, out, 1);
  const result = await out.read();
  if (result.some((value) => Math.abs(value - 2) > 1e-6)) throw new Error("got " + result);
  for (const handle of [cache, keys, values, query, out, device]) handle.dispose();
`;
const kNames = "KVCache, Tensor, full, openDevice";

ensureInstalled();
ensureDist();
makePrebuilds();
const tarball = pack(join(root, "build", "package"));

run(tool("publint"), ["run", tarball, "--strict"]);
// node16: resolution by `exports`, which every Node this package supports has.
run(tool("attw"), [tarball, "--profile", "node16"]);

const folder = mkdtempSync(join(tmpdir(), "spindlekv-package-"));
try {
  writeFileSync(join(folder, "package.json"), '{ "name": "empty", "private": true }\n');
  const quiet = ["--no-fund", "--no-audit", "--prefer-offline", "--ignore-scripts"];
  run("npm", ["install", ...quiet, tarball], { cwd: folder });
  writeFileSync(join(folder, "use.mjs"), `import { ${kNames} } from "spindlekv";\n${kUse}`);
  writeFileSync(
    join(folder, "use.cjs"),
    `const { ${kNames} } = require("spindlekv");\n(async () => {${kUse}})();\n`,
  );
  writeFileSync(
    join(folder, "entries.mjs"),
    'await import("spindlekv/eval");\nawait import("spindlekv/runtimes/gguf-llama");\n',
  );
  // The prebuilt binaries alone, whatever a build folder may hold.
  const env = { PREBUILDS_ONLY: "1" };
  for (const program of ["use.mjs", "use.cjs", "entries.mjs"]) {
    run(process.execPath, [program], { cwd: folder, env });
  }
  run(join(folder, "node_modules", ".bin", "spindlekv"), ["--help"], { cwd: folder, env });
} finally {
  rmSync(folder, { recursive: true, force: true });
}
say("package: installs from its tarball and works from ESM, CommonJS and the command line");
