// The backends of this run: cpu always, simt if its library is built (SPINDLEKV_REQUIRE_SIMT=1 makes its absence
// a failure), cuda if a device is usable; SPINDLEKV_TEST_BACKENDS=cpu,... leaves the others out, and
// SPINDLEKV_TEST_CPU_ISAS=avx2,... puts a CPU of each of these paths in the place of the one. Each test tells the
// summary its backend and how many cases it ran.
import { beforeEach, describe, it } from "vitest";
import { type Device, openDevice, SpindleKVError } from "./api.ts";
import { type Case, prngOf } from "./cases.ts";
import type { Prng } from "./prng.ts";
import { Arena } from "./tensors.ts";

export type BackendName = "cpu" | "simt" | "cuda";

export interface OpenBackend {
  readonly name: BackendName;
  /** The name, and the path of the CPU where there are several. */
  readonly label: string;
  /** Undefined: `reason` says why it is not there. */
  readonly device?: Device;
  readonly reason?: string;
}

declare module "vitest" {
  interface TaskMeta {
    backend?: string;
    cases?: number;
  }
}

const ABSENT_CODES = new Set(["ERR_SPINDLEKV_NO_DEVICE", "ERR_SPINDLEKV_NO_BINARY"]);

async function open(name: BackendName, label: string): Promise<OpenBackend> {
  const isRequired =
    name === "cpu" || (name === "simt" && process.env.SPINDLEKV_REQUIRE_SIMT === "1");
  try {
    return { name, label, device: await openDevice(name) };
  } catch (error) {
    const isAbsent = error instanceof SpindleKVError && ABSENT_CODES.has(error.code);
    if (isRequired || !isAbsent) throw error;
    return { name, label, reason: error.message };
  }
}

/** The CPU, on the path that it takes by itself or on each of those asked for. */
async function openCpus(): Promise<OpenBackend[]> {
  const isas = process.env.SPINDLEKV_TEST_CPU_ISAS?.split(",");
  if (isas === undefined) return [await open("cpu", "cpu")];
  const before = process.env.SPINDLEKV_CPU_ISA;
  const cpus: OpenBackend[] = [];
  for (const isa of isas) {
    process.env.SPINDLEKV_CPU_ISA = isa; // read when the device is opened
    const cpu = await open("cpu", `cpu ${isa}`);
    const { detail } = cpu.device!.info();
    if (!detail.startsWith(`${isa},`)) throw new Error(`expected a CPU on ${isa}, got ${detail}`);
    cpus.push(cpu);
  }
  if (before === undefined) delete process.env.SPINDLEKV_CPU_ISA;
  else process.env.SPINDLEKV_CPU_ISA = before;
  return cpus;
}

const wanted = process.env.SPINDLEKV_TEST_BACKENDS?.split(",") ?? ["cpu", "simt", "cuda"];

async function openIfWanted(name: BackendName): Promise<OpenBackend[]> {
  if (!wanted.includes(name)) {
    return [{ name, label: name, reason: `SPINDLEKV_TEST_BACKENDS is ${wanted.join(",")}` }];
  }
  return name === "cpu" ? openCpus() : [await open(name, name)];
}

export const backends: readonly OpenBackend[] = [
  ...(await openIfWanted("cpu")),
  ...(await openIfWanted("simt")),
  ...(await openIfWanted("cuda")),
];

let currentMeta: { backend?: string; cases?: number } = {};

/**
 * Registers the same tests for every backend, or for those in `only`. A backend that is not there counts as one
 * skipped test.
 */
export function describeOp(
  claim: string,
  define: (backend: BackendName, device: Device) => void,
  only: readonly BackendName[] = ["cpu", "simt", "cuda"],
): void {
  for (const { name, label, device, reason } of backends.filter((backend) =>
    only.includes(backend.name),
  )) {
    if (device === undefined) {
      it(`${label}: ${claim}`, ({ task, skip }) => {
        task.meta.backend = label;
        skip(reason);
      });
      continue;
    }
    describe(`${label}: ${claim}`, () => {
      beforeEach(({ task }) => {
        task.meta.backend = label;
        task.meta.cases = 0;
        currentMeta = task.meta;
      });
      define(name, device);
    });
  }
}

/** Runs one case in an arena of its own: its errors carry the id, its canaries are checked, its memory freed. */
export async function runCase(
  device: Device,
  id: string,
  run: (arena: Arena, random: Prng) => Promise<void>,
): Promise<void> {
  const random = prngOf(id);
  const arena = new Arena(device, random);
  currentDevice = device;
  try {
    await run(arena, random);
    await arena.check();
  } catch (error) {
    if (error instanceof Error) error.message = `[${id}] ${error.message}`;
    throw error;
  } finally {
    arena.dispose();
  }
  currentMeta.cases = (currentMeta.cases ?? 0) + 1;
}

export async function runCases<A>(
  device: Device,
  cases: readonly Case<A>[],
  run: (values: Case<A>, arena: Arena, random: Prng) => Promise<void>,
): Promise<void> {
  for (const values of cases) {
    await runCase(device, values.id, (arena, random) => run(values, arena, random));
  }
}

let currentDevice: Device | undefined;

/** Calls the op by its enqueuing form, its promise form or a replayed capture, as the case's generator decides. */
export async function invoke<P>(
  random: Prng,
  op: { readonly sync: (params: P) => void; readonly async: (params: P) => Promise<void> },
  params: P,
): Promise<void> {
  const form = random.fork("form").uniform();
  if (form < 0.3) return op.sync(params);
  if (form < 0.6) return op.async(params);
  const step = (currentDevice as Device).capture(() => op.sync(params));
  try {
    if (form < 0.8) step.replay();
    else await step.replayAsync();
  } finally {
    step.dispose();
  }
}
