// Every kernel of cuda/ as machine code: compiles the files for some architectures and reads the cubins.
// Results are kept in build/cubin by content, so a repeated run compiles only what changed.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { linesOf, resourcesOf, sectionsOf, symbolsOf } from "./cubin.mjs";
import { capture, root } from "./run.mjs";
import { histogramOf } from "./sass.mjs";

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

/** Every kernel of a cubin with its registers, memory and instruction counts. */
export function kernelsOf(cubin, log) {
  const sections = sectionsOf(readFileSync(cubin));
  const symbols = symbolsOf(sections).map(({ name }) => name);
  const resources = resourcesOf(sections);
  const lines = linesOf(sections);
  return sections
    .map((section, index) => ({ ...section, index }))
    .filter(({ name }) => name.startsWith(".text."))
    .map(({ name, data, index }) => {
      const symbol = name.slice(".text.".length);
      const found = resources.get(symbols.indexOf(symbol)) ?? { registers: 0, stackBytes: 0 };
      const entry = log.indexOf(`'${symbol}'`);
      const shared = /(\d+) bytes smem/.exec(
        entry < 0 ? "" : log.slice(entry).split("Compiling entry", 1)[0],
      );
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
        code: data,
        lines: lines.get(index) ?? [],
        counts: histogramOf(data),
      };
    });
}

/** Demangled, without the namespace and the parameters. */
function readableNames(symbols) {
  const readable = capture("c++filt", symbols).stdout.trim().split("\n");
  return symbols.map((symbol, index) =>
    (readable[index] ?? symbol)
      .replace(/^void /, "")
      .replaceAll("spindlekv::cuda::", "")
      .replace(/\([^()]*\)$/, ""),
  );
}

/**
 * The kernels of `files` for each of `architectures`. Also what did not compile (`errors`) and the seconds of
 * each compilation (`tasks`).
 */
export async function readKernels(nvcc, files, architectures) {
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

  const kernels = tasks
    .filter(({ cubin }) => cubin)
    .flatMap(({ file, architecture, cubin }) =>
      kernelsOf(cubin, readFileSync(cubin.replace(/cubin$/, "log"), "utf8")).map((kernel) => ({
        file,
        architecture,
        ...kernel,
      })),
    );
  const names = readableNames(kernels.map(({ symbol }) => symbol));
  kernels.forEach((kernel, index) => {
    kernel.name = names[index];
  });
  return { kernels, errors: tasks.flatMap(({ error }) => error ?? []), tasks };
}
