/**
 * What a benchmark leaves behind: one JSON file a case, with everything needed to read it later. Any program may
 * write such a file to `bench/results/<device>/<suite>-<name>.json`; docs/benchmarks.md shows what it finds there.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { loadavg, release, totalmem, type } from "node:os";
import { join } from "node:path";
import type { Device, DeviceKind } from "spindlekv";
import type { Shape } from "./case.ts";
import type { Spread } from "./statistics.ts";

/** Where and from what a result comes. */
export interface Environment {
  /** Backend of the device; left out: cpu. */
  readonly kind?: DeviceKind;
  readonly device: string;
  readonly detail: string;
  readonly threads: number;
  readonly os: string;
  /** Null where no Node took part (bench/gpu-all). */
  readonly node: string | null;
  readonly memoryBytes: number;
  readonly commit: string;
  /** Whether files differed from the commit. */
  readonly modified: boolean;
  readonly date: string;
  /** Processors busy with other things before it: near 0 on a machine that does nothing else. */
  readonly load: number;
}

/** One arm of a setting. */
export interface ArmResult {
  readonly name: string;
  readonly milliseconds: Spread;
  readonly gigabytesPerSecond: number;
  readonly gigaflopsPerSecond: number;
  /** Of the bandwidth measured in the same rounds; of a time without bytes 0. */
  readonly share: Spread;
  /** Time over that of the first arm, call by call or round by round. */
  readonly ratioToFirst?: Spread;
  /** The package whose code this is, when it is not ours. */
  readonly peer?: string;
  /** Where they differ from those of the setting. */
  readonly bytes?: number;
  readonly flops?: number;
  readonly baselineMilliseconds?: Spread;
}

/** One shape of a case. */
export interface SettingResult {
  readonly shape: string;
  readonly sizes: Shape;
  readonly bytes: number;
  readonly flops: number;
  readonly facts: Readonly<Record<string, number>>;
  /** What `share` refers to, in words. */
  readonly bandwidthOf: string;
  /** GB/s (10^9 bytes); "fma" is the peak of multiply-adds in GFLOP/s. */
  readonly bandwidth: Readonly<Record<string, Spread>>;
  readonly arms: readonly ArmResult[];
}

/** A speed that an issue asks for. */
export interface Goal {
  readonly what: string;
  readonly asked: string;
  /** The median; null when it was not measured. */
  readonly measured: number | null;
  /** Quartiles of what was measured. */
  readonly low?: number;
  readonly high?: number;
  /** Null when it was not measured: never met. */
  readonly met: boolean | null;
  /** Why it was not measured. */
  readonly because?: string;
  /** Unit of `measured` and `asked`; none for ratios. */
  readonly unit?: string;
}

export interface CaseResult {
  readonly suite: string;
  readonly name: string;
  readonly op: string;
  readonly what: string;
  readonly baseline: string | null;
  readonly quick: boolean;
  readonly environment: Environment;
  readonly settings: readonly SettingResult[];
  readonly goals: readonly Goal[];
  /** Versions of the packages that were timed side by side. */
  readonly peers?: Readonly<Record<string, string>>;
}

/** What is known of the machine and the sources. */
export function describeEnvironment(device: Device, root: string): Environment {
  const { name, detail, threads } = device.info();
  const git = (...words: string[]) => {
    try {
      return execFileSync("git", words, {
        cwd: root,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"],
      }).trim();
    } catch {
      return undefined; // an unpacked archive
    }
  };
  return {
    kind: device.kind,
    device: name,
    detail,
    threads,
    os: `${type()} ${release()} ${process.arch}`,
    node: process.version,
    memoryBytes: totalmem(),
    commit: git("rev-parse", "HEAD") ?? "unknown",
    modified:
      git(
        "status",
        "--porcelain",
        "--",
        "core",
        "cpu",
        "cuda",
        "binding",
        "lib",
        "bench",
        ":!bench/results",
      ) !== "",
    date: new Date().toISOString(),
    load: loadavg()[0],
  };
}

/**
 * The folder below bench/results/ of a device: "cpu", or the name of the GPU, as in "nvidia-h100-80gb-hbm3".
 */
export function folderOf({ kind = "cpu", device }: Environment): string {
  if (kind === "cpu") return "cpu";
  return device
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
}

/** Writes `<folder>/<suite>-<name>.json` and returns its path. */
export function writeResult(folder: string, result: CaseResult): string {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${result.suite}-${result.name}.json`);
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
  return path;
}

/** The results of a folder, sorted by file name; a missing folder has none. */
export function readResults(folder: string): CaseResult[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")) as CaseResult)
    .filter((result) => result.suite !== undefined); // demo.json lies there too
}
