// One list of error codes: core/error_codes.def, core/types.h, lib/errors.ts and docs/errors.md name the same ones,
// and every one of them comes out of a call of the public API.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openSafetensors } from "../../lib/cli/safetensors-reader.ts";
import {
  type Device,
  type ErrorCode,
  errorCodes,
  KVCache,
  openDevice,
  reduceGroup,
  SpindleKVError,
  snapKV,
  Tensor,
} from "../../lib/index.ts";
import { fakeBackendFolder, withBackends } from "./fake-backend.ts";
import { openFake, order, orderAsync, runUntilCancelled } from "./orders.ts";

const scratch = mkdtempSync(join(tmpdir(), "spindlekv-errors-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const emptyFolder = () => mkdtempSync(join(scratch, "empty-"));

interface DefinedCode {
  readonly name: string;
  readonly code: string;
  readonly meaning: string;
}

const definedCodes: DefinedCode[] = Array.from(
  readFileSync("core/error_codes.def", "utf8").matchAll(
    /^SKV_ERROR\((\w+), "(\w+)", "([^"]+)"\)$/gm,
  ),
  ([, name, code, meaning]) => ({ name, code, meaning }),
);

describe("one list of codes", () => {
  it("core/error_codes.def is read whole", () => {
    const lines = readFileSync("core/error_codes.def", "utf8").match(/^SKV_ERROR\(/gm);
    expect(definedCodes.length).toBe(lines?.length);
    expect(definedCodes.length).toBeGreaterThan(0);
  });

  it("core/types.h numbers them in the same order", () => {
    const body = /enum SkvCode \{([^}]*)\}/.exec(readFileSync("core/types.h", "utf8"))?.[1] ?? "";
    const numbers = Array.from(body.matchAll(/SKV_(\w+) = (\d+)/g), ([, name, n]) => [name, +n]);
    expect(numbers).toEqual([
      ["OK", 0],
      ...definedCodes.map(({ name }, index) => [name, index + 1]),
    ]);
  });

  it("lib/errors.ts has the same codes and meanings", () => {
    expect(Object.entries(errorCodes)).toEqual(
      definedCodes.map(({ code, meaning }) => [code, meaning]),
    );
  });

  it("docs/errors.md explains each: meaning, typical cause, what to do", () => {
    const sections = readFileSync("docs/errors.md", "utf8").split(/^## /m).slice(1);
    expect(sections.map((section) => section.split("\n")[0])).toEqual(
      definedCodes.map(({ code }) => code),
    );
    sections.forEach((section, i) => {
      const text = section.replaceAll(/\s+/g, " ");
      expect(text).toContain(definedCodes[i].meaning);
      expect(text).toMatch(/\*\*Typical cause:\*\* \S+/);
      expect(text).toMatch(/\*\*What to do:\*\* \S+/);
    });
  });
});

/** A cache of one layer with some tokens in it, and queries seen by attend unless told otherwise. */
function filledCache(device: Device, options: { value?: number; isAttended?: boolean } = {}) {
  const { value = 1, isAttended = true } = options;
  const tokens = 96;
  const cache = new KVCache(device, {
    layers: 1,
    queryHeads: 1,
    kvHeads: 1,
    headDim: 8,
    dtype: "f32",
    method: snapKV({ keep: 0.5, window: 16 }),
  });
  const rows = (seed: number) =>
    Float32Array.from({ length: tokens * 8 }, (_, i) => Math.sin(seed * i + seed) * value);
  cache.layers[0].append(rows(1), rows(2), tokens);
  if (isAttended) cache.layers[0].attend(rows(3), new Float32Array(tokens * 8), tokens);
  return cache;
}

// A producer per code; the type makes a missing one a compile error, the tests below run them.
const producers: Record<ErrorCode, () => unknown> = {
  ERR_SPINDLEKV_ARGUMENT: async () => Tensor.zeros(await openDevice("cpu"), "f32", [-1]),
  ERR_SPINDLEKV_MISSING_INPUT: async () =>
    filledCache(await openDevice("cpu"), { isAttended: false }).compress(),
  ERR_SPINDLEKV_UNSUPPORTED: async () => order(await openFake(), 3),
  ERR_SPINDLEKV_DISPOSED: async () => {
    const tensor = Tensor.zeros(await openDevice("cpu"), "f32", [1]);
    tensor.dispose();
    return tensor.read();
  },
  ERR_SPINDLEKV_OUT_OF_MEMORY: async () => {
    const device = await openDevice("cpu");
    device.failAllocation(1);
    return Tensor.zeros(device, "f32", [1]);
  },
  ERR_SPINDLEKV_ABORTED: async () => {
    const controller = new AbortController();
    const job = orderAsync(await openFake(), runUntilCancelled, controller.signal);
    controller.abort();
    return job;
  },
  ERR_SPINDLEKV_BUSY: async () => {
    const cache = filledCache(await openDevice("cpu"));
    const pending = cache.compress();
    try {
      return await cache.compress();
    } finally {
      await pending;
    }
  },
  ERR_SPINDLEKV_NON_FINITE: async () =>
    filledCache(await openDevice("cpu"), { value: Number.NaN }).compress(),
  ERR_SPINDLEKV_WRONG_DEVICE: async () => {
    const input = Tensor.zeros(await openDevice("cpu"), "f32", [1, 4]);
    const out = Tensor.zeros(await openDevice("cpu"), "f32", [1, 4]);
    return reduceGroup({ in: input, out, group: 1, kind: "sum" });
  },
  ERR_SPINDLEKV_CUDA: async () => order(await openFake(), 10),
  ERR_SPINDLEKV_DEVICE_LOST: async () => {
    const device = await openFake();
    expect(() => order(device, 10)).toThrow();
    return order(device, 0);
  },
  ERR_SPINDLEKV_NO_DEVICE: () => openFake(9),
  ERR_SPINDLEKV_NO_BINARY: () => withBackends(emptyFolder(), () => openDevice("cuda")),
  ERR_SPINDLEKV_FILE: async () => {
    const path = join(emptyFolder(), "short.safetensors");
    writeFileSync(path, "too short");
    return openSafetensors(path);
  },
  ERR_SPINDLEKV_INTERNAL: async () => order(await openFake(), 99),
};

async function errorOf(produce: () => unknown): Promise<unknown> {
  try {
    await produce();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe("every code comes out of the public API", () => {
  for (const code of Object.keys(errorCodes) as ErrorCode[]) {
    it(code, async () => {
      const error = await errorOf(producers[code]);
      expect(error).toBeInstanceOf(SpindleKVError);
      const { code: actual, op, message } = error as SpindleKVError;
      expect(actual, message).toBe(code);
      expect(op).toMatch(/^[A-Za-z.]+$/);
      expect(message).toMatch(/^[A-Za-z.]+: expected .+, got .+/s);
      expect(message.startsWith(`${op}: `)).toBe(true);
    });
  }
});

describe("what an error carries", () => {
  it("the parts of its message, with names as in TypeScript", async () => {
    const input = Tensor.zeros(await openDevice("cpu"), "f32", [1, 4]);
    const error = await errorOf(() =>
      reduceGroup({ in: input, out: input, group: 17, kind: "sum" }),
    );
    expect(error).toMatchObject({
      op: "reduceGroup",
      param: "group",
      expected: "an integer in [1, 16]",
      actual: "17",
      name: "SpindleKVError",
    });
  });

  it("the reason of the signal as cause of an abort", async () => {
    const reason = new Error("the user left");
    const error = await errorOf(async () =>
      orderAsync(await openFake(), runUntilCancelled, AbortSignal.abort(reason)),
    );
    expect(error).toMatchObject({ code: "ERR_SPINDLEKV_ABORTED", cause: reason });
  });

  it("the CUDA error code, and for a lost device the first failure as cause", async () => {
    const device = await openFake();
    const first = await errorOf(() => order(device, 10));
    expect(first).toMatchObject({ code: "ERR_SPINDLEKV_CUDA", op: "attend", nativeCode: 700 });
    const later = await errorOf(() => Tensor.zeros(device, "f32", [1]));
    expect(later).toMatchObject({
      code: "ERR_SPINDLEKV_DEVICE_LOST",
      cause: { code: "ERR_SPINDLEKV_CUDA", op: "attend", nativeCode: 700 },
    });
  });

  it("a device lost inside a job rejects the next one", async () => {
    const device = await openFake();
    expect(await errorOf(() => orderAsync(device, 10))).toMatchObject({
      code: "ERR_SPINDLEKV_CUDA",
    });
    expect(await errorOf(() => device.synchronize())).toMatchObject({
      code: "ERR_SPINDLEKV_DEVICE_LOST",
      cause: { op: "attend" },
    });
  });

  it("an exception of the caller's own getter passes unchanged", async () => {
    const own = new Error("mine");
    const params = {
      get in(): Tensor {
        throw own;
      },
    };
    expect(await errorOf(() => reduceGroup(params as never))).toBe(own);
  });
});

describe("backend libraries", () => {
  it("one of another ABI is refused", async () => {
    const folder = fakeBackendFolder(["FAKE_ABI=77"]);
    const error = await errorOf(() => withBackends(folder, () => openDevice("cuda")));
    expect(error).toMatchObject({ code: "ERR_SPINDLEKV_NO_BINARY" });
    expect((error as Error).message).toMatch(/expected ABI 5 .* got ABI 77/);
  });

  it("a file that is no library is refused with the loader's words", async () => {
    const folder = emptyFolder();
    writeFileSync(join(folder, "libspindlekv_cuda.so"), "not a library");
    const error = await errorOf(() => withBackends(folder, () => openDevice("cuda")));
    expect(error).toMatchObject({ code: "ERR_SPINDLEKV_NO_BINARY", op: "openDevice" });
    expect((error as Error).message).toContain("libspindlekv_cuda.so");
  });
});
