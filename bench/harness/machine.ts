/**
 * What this machine could do at best: read, copy, and multiply-add. A program compiled for its processor says
 * (machine-probe.cc, which scripts/bench.mjs builds); without a compiler, WebAssembly reads and copies.
 */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { totalmem } from "node:os";
import type { Contestant, Samples } from "./interleave.ts";
import { LineProcess } from "./line-process.ts";
import { MemoryMeter } from "./memory-meter.ts";
import { type Spread, spreadOf } from "./statistics.ts";

export type Ability = "read" | "copy" | "fma";

/** The compiled probe; set by scripts/bench.mjs where there is a compiler. */
export const kProbeVariable = "SPINDLEKV_BENCH_PROBE";

const kGiga = 1e9;
const kMib = 2 ** 20;
const kCaches = "/sys/devices/system/cpu/cpu0/cache";
const kLeastPerThread = 32 * kMib;
const kLeastRotation = 512 * kMib;

/** Bytes of the last-level cache, where Linux says so. */
export function lastLevelCacheBytes(folder = kCaches): number {
  let sizes: number[];
  try {
    sizes = readdirSync(folder)
      .filter((name) => name.startsWith("index"))
      .map((name) => Number(readFileSync(join(folder, name, "size"), "utf8").replace("K\n", "")));
  } catch {
    return 0; // not Linux
  }
  return Math.max(0, ...sizes.filter(Number.isFinite)) * 1024;
}

/** Inputs go round so many bytes: twice the last-level cache, and no more than an eighth of the memory. */
export function rotatedBytes(cacheBytes = lastLevelCacheBytes(), memory = totalmem()): number {
  return Math.min(Math.max(2 * cacheBytes, kLeastRotation), memory / 8);
}

/** Copies of an input of `bytes`, so that they go round {@link rotatedBytes}. */
export function copiesFor(bytes: number): number {
  return Math.max(2, Math.ceil(rotatedBytes() / bytes));
}

interface NativeProbe {
  readonly process: LineProcess;
  readonly hello: Hello;
}

interface Hello {
  readonly readBytes: number;
  readonly flops: number;
  readonly streams: number;
  readonly prefetch: number;
}

/** What a result is a share of: something that is measured in turn with the arms. */
export interface Yardstick {
  /** How it is measured, in words. */
  readonly way: string;
  probes(abilities: readonly Ability[]): Contestant[];
  /** Of every round: GB/s of reading, or of copying (bytes read plus written), or GFLOP/s. */
  rates(samples: Samples, ability: Ability): number[];
  /** Ends what measures it. */
  dispose(): Promise<void>;
}

/** What {@link Yardstick.rates} says of each ability that was measured, summarised. */
export function summaryOf(
  yardstick: Yardstick,
  samples: Samples,
  abilities: readonly Ability[],
): Record<string, Spread> {
  const rates = abilities.map((ability) => [ability, yardstick.rates(samples, ability)] as const);
  return Object.fromEntries(
    rates.filter(([, each]) => each.length > 0).map(([ability, each]) => [ability, spreadOf(each)]),
  );
}

/** Running probes of the processor and its memory. */
export class Machine implements Yardstick {
  readonly way: string;
  readonly #native: NativeProbe | undefined;
  readonly #meter: MemoryMeter | undefined;

  private constructor(native: NativeProbe | undefined, meter: MemoryMeter | undefined) {
    this.#native = native;
    this.#meter = meter;
    if (native === undefined) {
      this.way = "WebAssembly SIMD, reading by the better of one and four streams a thread";
    } else {
      const { streams, prefetch } = native.hello;
      const ahead =
        prefetch === 0 ? "no software prefetch" : `software prefetch ${prefetch} B ahead`;
      this.way = `compiled for the processor, reading by ${streams} streams a thread with ${ahead}`;
    }
  }

  /** @param program the running program, whose threads read where the compiled probe is missing */
  static async start(program: string, threads: number): Promise<Machine> {
    const path = process.env[kProbeVariable];
    const perThread = Math.max(rotatedBytes() / threads, kLeastPerThread);
    const mib = 2 * Math.ceil(perThread / (2 * kMib));
    if (path === undefined) {
      return new Machine(undefined, await MemoryMeter.start(program, threads, mib * kMib));
    }
    const probe = new LineProcess(path, [String(threads), String(mib)]);
    return new Machine({ process: probe, hello: await probe.next<Hello>() }, undefined);
  }

  probes(abilities: readonly Ability[]): Contestant[] {
    const native = this.#native;
    if (native !== undefined) {
      return abilities.map((name) => ({
        name,
        run: async () => (await native.process.ask<{ seconds: number }>(name)).seconds,
      }));
    }
    const meter = this.#meter!;
    const commands = abilities.flatMap((name) =>
      name === "read"
        ? (["readOne", "readFour"] as const)
        : name === "copy"
          ? ["copy" as const]
          : [],
    );
    return commands.map((name) => ({ name, run: () => meter.run(name) }));
  }

  rates(samples: Samples, ability: Ability): number[] {
    const seconds = (name: string) => samples.get(name)!.map(([first]) => first);
    if (this.#native !== undefined) {
      const { readBytes, flops } = this.#native.hello;
      const amount = ability === "fma" ? flops : readBytes; // a copy reads half and writes half
      return seconds(ability).map((each) => amount / kGiga / each);
    }
    const { readBytes, copyBytes } = this.#meter!;
    if (ability === "copy") return seconds("copy").map((each) => copyBytes / kGiga / each);
    if (ability === "fma") return [];
    const four = seconds("readFour");
    return seconds("readOne").map((one, round) => readBytes / kGiga / Math.min(one, four[round]));
  }

  async dispose(): Promise<void> {
    await this.#native?.process.dispose();
    await this.#meter?.dispose();
  }
}
