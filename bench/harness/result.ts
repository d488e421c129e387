/** What a benchmark leaves behind: one JSON file a case, with everything needed to read it later. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { loadavg, release, totalmem, type } from "node:os";
import { join } from "node:path";
import type { Device } from "spindlekv";
import type { Shape } from "./case.ts";
import type { Spread } from "./statistics.ts";

/** Where and from what a result comes. */
export interface Environment {
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
  /** Load average of the minute before: near 0 on a machine that does nothing else. */
  readonly load: number;
}

/** One arm of a setting. */
export interface ArmResult {
  readonly name: string;
  readonly milliseconds: Spread;
  readonly gigabytesPerSecond: number;
  readonly gigaflopsPerSecond: number;
  /** Of the bandwidth measured in the same rounds. */
  readonly share: Spread;
  /** Time over that of the first arm, call by call. */
  readonly ratioToFirst?: Spread;
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
  /** GB/s (10^9 bytes). */
  readonly bandwidth: Readonly<Record<string, Spread>>;
  readonly arms: readonly ArmResult[];
}

/** A speed that an issue asks for. */
export interface Goal {
  readonly what: string;
  readonly asked: string;
  readonly measured: number;
  readonly met: boolean;
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
    device: name,
    detail,
    threads,
    os: `${type()} ${release()} ${process.arch}`,
    node: process.version,
    memoryBytes: totalmem(),
    commit: git("rev-parse", "HEAD") ?? "unknown",
    modified:
      git("status", "--porcelain", "--", "core", "cpu", "binding", "lib", "bench/*.ts") !== "",
    date: new Date().toISOString(),
    load: loadavg()[0],
  };
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
