// Compiles every kernel for every architecture and reads the machine code: no kernel may keep
// anything in local memory (a stack frame, a spill, or a local load or store).
//
//   node scripts/check-cubin.mjs [--arch sm_90a[,sm_80]] [--json FILE] [--all] [file.cu ...]
//
//   --arch   only these architectures
//   --json   writes every kernel's figures to FILE
//   --all    prints every kernel, not only those of the last architecture
//
// Results are kept in build/cubin by content, so a repeated run compiles only what changed.
// nvcc itself says nothing of a dynamically indexed local array (0 bytes spill), hence the reading.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { filesUnder } from "./support/files.mjs";
import { capture, fail, root, say } from "./support/run.mjs";
import { findToolkit } from "./support/toolchain.mjs";

const kArchitectures = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"];
const kFlags = ["-cubin", "-std=c++20", "--fmad=false", "-lineinfo", "-Xptxas=-v,-warn-spills"];
const kJobs = 2;
const kCacheFolder = join(root, "build", "cubin");

/** A file and everything of the repository that it includes, in a fixed order. */
function withIncludes(file, seen = new Set()) {
  if (seen.has(file) || !existsSync(join(root, file))) return seen;
  seen.add(file);
  const text = readFileSync(join(root, file), "utf8");
  for (const match of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
    const beside = relative(root, resolve(root, dirname(file), match[1]));
    withIncludes(existsSync(join(root, match[1])) ? match[1] : beside, seen);
  }
  return seen;
}

/** Names the result of compiling `file` for `architecture` by everything that decides it. */
function cacheKey(file, architecture, nvccVersion) {
  const hash = createHash("sha256").update(JSON.stringify([kFlags, architecture, nvccVersion]));
  for (const source of [...withIncludes(file)].sort()) {
    hash.update(`\0${source}\0`).update(readFileSync(join(root, source)));
  }
  return hash.digest("hex").slice(0, 32);
}

/** Compiles one file for one architecture unless the cache has it; resolves to the cubin's path. */
async function compile(nvcc, nvccVersion, { file, architecture }) {
  const base = join(kCacheFolder, cacheKey(file, architecture, nvccVersion));
  const cubin = `${base}.cubin`;
  if (existsSync(cubin)) return { cubin, seconds: 0 };
  const unfinished = `${base}.${process.pid}.part`;
  const started = Date.now();
  const args = [...kFlags, `-arch=${architecture}`, `-I${root}`, file, "-o", unfinished];
  const child = spawn(nvcc, args, { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.on("data", (chunk) => {
    log += chunk;
  });
  const status = await new Promise((done) => {
    child.on("error", () => done(127));
    child.on("close", done);
  });
  if (status !== 0) {
    rmSync(unfinished, { force: true });
    const reasons = log.split("\n").filter((line) => !line.startsWith("ptxas info"));
    return { error: `${file} does not compile for ${architecture}:\n${reasons.join("\n")}` };
  }
  writeFileSync(`${base}.log`, log);
  renameSync(unfinished, cubin);
  return { cubin, seconds: (Date.now() - started) / 1000 };
}

// --- reading a cubin ----------------------------------------------------------------------------

/** Sections of a little-endian ELF64 file: name, data, and the symbol its header points to. */
function sectionsOf(bytes) {
  if (bytes.readUInt32BE(0) !== 0x7f454c46) throw new Error("not an ELF file");
  const headers = Number(bytes.readBigUInt64LE(40));
  const [size, count, namesIndex] = [58, 60, 62].map((at) => bytes.readUInt16LE(at));
  const header = (index) => {
    const at = headers + index * size;
    const offset = Number(bytes.readBigUInt64LE(at + 24));
    const length = Number(bytes.readBigUInt64LE(at + 32));
    const isEmpty = bytes.readUInt32LE(at + 4) === 8; // SHT_NOBITS
    return {
      nameAt: bytes.readUInt32LE(at),
      data: isEmpty ? Buffer.alloc(0) : bytes.subarray(offset, offset + length),
      length,
    };
  };
  const names = header(namesIndex).data;
  return Array.from({ length: count }, (_, index) => {
    const section = header(index);
    const end = names.indexOf(0, section.nameAt);
    return { ...section, name: names.toString("latin1", section.nameAt, end) };
  });
}

/** Attribute numbers of .nv.info entries whose payload is (symbol, value). */
const kFrameSize = 0x11;
const kMinStackSize = 0x12;
const kRegisterCount = 0x2f;

/** Registers and stack bytes by symbol index. */
function resourcesOf(info) {
  const resources = new Map();
  for (let at = 0; at + 4 <= info.length; ) {
    const [format, attribute, size] = [info[at], info[at + 1], info.readUInt16LE(at + 2)];
    at += 4;
    if (format !== 4) continue; // the value is in the header itself
    if ([kFrameSize, kMinStackSize, kRegisterCount].includes(attribute)) {
      const symbol = info.readUInt32LE(at);
      const value = info.readUInt32LE(at + 4);
      const entry = resources.get(symbol) ?? { registers: 0, stackBytes: 0 };
      if (attribute === kRegisterCount) entry.registers = value;
      else entry.stackBytes = Math.max(entry.stackBytes, value);
      resources.set(symbol, entry);
    }
    at += size;
  }
  return resources;
}

/** Symbol names in table order. */
function symbolsOf(sections) {
  const table = sections.find(({ name }) => name === ".symtab").data;
  const names = sections.find(({ name }) => name === ".strtab").data;
  return Array.from({ length: table.length / 24 }, (_, index) => {
    const start = table.readUInt32LE(index * 24);
    return names.toString("latin1", start, names.indexOf(0, start));
  });
}

/** Opcodes (low 12 bits of a 16-byte instruction) that the report names. */
const kOpcodes = new Map([
  [0x981, "LDG"],
  [0x986, "STG"],
  [0xfae, "LDGSTS"],
  [0x984, "LDS"],
  [0x388, "STS"],
  [0x83b, "LDSM"],
  [0x23c, "HMMA"],
  [0x223, "FFMA"],
  [0x308, "MUFU"],
  [0xb1d, "BAR"],
  [0x983, "LDL"],
  [0x387, "STL"],
  [0x9a3, "ATOMG"],
  [0x98e, "RED"],
  [0x589, "SHFL"],
  [0x989, "SHFL"],
  [0xf89, "SHFL"],
]);
const kWithWidth = new Set(["LDG", "STG", "LDS", "STS"]);
/** Access width in bits, from bits 73 to 75 of a load or store. */
const kWidths = [8, 8, 16, 16, 32, 64, 128, 0];

/** Counts of instructions: every one, those that are named, and memory accesses by width. */
function histogramOf(code) {
  const counts = { instructions: code.length / 16 };
  const add = (name) => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  for (let at = 0; at < code.length; at += 16) {
    const name = kOpcodes.get(code.readUInt16LE(at) & 0xfff);
    if (name === undefined) continue;
    add(kWithWidth.has(name) ? `${name}.${kWidths[(code[at + 9] >> 1) & 7]}` : name);
  }
  return counts;
}

/** Every kernel of a cubin with its registers, memory and instruction counts. */
function kernelsOf(cubin, log) {
  const sections = sectionsOf(readFileSync(cubin));
  const symbols = symbolsOf(sections);
  const info = sections.find(({ name }) => name === ".nv.info");
  const resources = info ? resourcesOf(info.data) : new Map();
  return sections
    .filter(({ name }) => name.startsWith(".text."))
    .map(({ name, data }) => {
      const symbol = name.slice(".text.".length);
      const found = resources.get(symbols.indexOf(symbol)) ?? { registers: 0, stackBytes: 0 };
      const entry = log.indexOf(`'${symbol}'`);
      const shared = /(\d+) bytes smem/.exec(entry < 0 ? "" : log.slice(entry).split("'for", 1)[0]);
      const spills = [
        ...log.matchAll(/Function properties for (\S+)\n.*?(\d+) bytes spill stores/g),
      ]
        .filter((match) => match[1] === symbol)
        .map((match) => Number(match[2]));
      return {
        symbol,
        ...found,
        sharedBytes: shared ? Number(shared[1]) : 0,
        spillBytes: spills[0] ?? 0,
        counts: histogramOf(data),
      };
    });
}

/** What is wrong with a kernel; empty when nothing is. */
function faultsOf({ stackBytes, spillBytes, counts }) {
  const faults = [];
  if (stackBytes > 0) faults.push(`a stack frame of ${stackBytes} bytes`);
  if (spillBytes > 0) faults.push(`${spillBytes} bytes of register spills`);
  if (counts.LDL) faults.push(`${counts.LDL} local loads`);
  if (counts.STL) faults.push(`${counts.STL} local stores`);
  return faults;
}

// --- the run ------------------------------------------------------------------------------------

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { arch: { type: "string" }, json: { type: "string" }, all: { type: "boolean" } },
});
const architectures = options.arch?.split(",") ?? kArchitectures;
const unknown = architectures.find((name) => !/^sm_\d+a?$/.test(name));
if (unknown) fail(`check-cubin: expected sm_<number> for --arch, got ${unknown}`);
const files = positionals.length > 0 ? positionals : filesUnder("cuda", (p) => p.endsWith(".cu"));
if (files.length === 0) fail("check-cubin: expected kernels under cuda/, found none");
const { nvcc, nvccReason } = findToolkit();
if (!nvcc) fail(`check-cubin: ${nvccReason}`);
const nvccVersion = capture(nvcc, ["--version"]).stdout;
mkdirSync(kCacheFolder, { recursive: true });

const tasks = files.flatMap((file) =>
  architectures.map((architecture) => ({ file, architecture })),
);
const queue = [...tasks];
const worker = async () => {
  for (let task = queue.shift(); task !== undefined; task = queue.shift()) {
    Object.assign(task, await compile(nvcc, nvccVersion, task));
  }
};
await Promise.all(Array.from({ length: kJobs }, worker));

const errors = tasks.flatMap(({ error }) => error ?? []);
const kernels = tasks
  .filter(({ cubin }) => cubin)
  .flatMap(({ file, architecture, cubin }) =>
    kernelsOf(cubin, readFileSync(cubin.replace(/cubin$/, "log"), "utf8")).map((kernel) => ({
      file,
      architecture,
      ...kernel,
    })),
  );
const readable = capture(
  "c++filt",
  kernels.map(({ symbol }) => symbol),
)
  .stdout.trim()
  .split("\n");
kernels.forEach((kernel, index) => {
  const name = (readable[index] ?? kernel.symbol).replace(/^void /, "");
  kernel.name = name.replaceAll("spindlekv::cuda::", "").replace(/\([^()]*\)$/, "");
});

const shown = options.all ? architectures : architectures.slice(-1);
for (const kernel of kernels) {
  const { instructions, ...rest } = kernel.counts;
  const highlights = Object.entries(rest)
    .sort()
    .map(([name, count]) => `${name} ${count}`);
  if (!shown.includes(kernel.architecture)) continue;
  console.log(
    `${kernel.architecture} ${kernel.name}: ${kernel.registers} registers, ` +
      `${kernel.sharedBytes} B shared, ${instructions} instructions; ${highlights.join(", ")}`,
  );
}
for (const kernel of kernels) {
  const faults = faultsOf(kernel);
  if (faults.length === 0) continue;
  const { file, name, architecture } = kernel;
  errors.push(`${file}: ${name} on ${architecture} has ${faults.join(", ")}; expected none`);
}
if (options.json) writeFileSync(options.json, `${JSON.stringify(kernels, null, 2)}\n`);

const compiled = tasks.filter(({ seconds }) => seconds > 0);
const slowest = [...compiled].sort((a, b) => b.seconds - a.seconds)[0];
const timing = slowest
  ? `; ${compiled.length} compiled, slowest ${slowest.file} ${slowest.architecture} ` +
    `${slowest.seconds.toFixed(1)} s`
  : "; all from build/cubin";
for (const error of errors) console.error(error);
if (errors.length > 0) fail(`check-cubin: ${errors.length} faults`);
say(
  `check-cubin: ${kernels.length} kernel builds for ${architectures.join(", ")} are clean${timing}`,
);
