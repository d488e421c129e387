import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { endingOf } from "../../lib/cli/exit-status.ts";
import { type OutputTensor, writeSafetensors } from "../../lib/cli/safetensors-writer.ts";
import { errorCodes, openDevice, SpindleKVError } from "../../lib/index.ts";
import {
  applyLine,
  badFile,
  dump,
  expectFailure,
  folder,
  input,
  kOptions,
  missingInput,
  shape,
  usage,
} from "./failing.ts";
import {
  bytesOf,
  encode,
  metadataOf,
  randomDump,
  runCommand,
  tensorsOf,
  writeDump,
} from "./support.ts";

describe("status 3: the input file", () => {
  it("is not there", async () => {
    await expectFailure(
      applyLine({ input: `${input}.gone` }),
      3,
      badFile,
      /a readable file for input.*ENOENT/,
    );
  });

  it("is a folder", async () => {
    await expectFailure(applyLine({ input: folder }), 3, badFile, /for input, got /);
  });

  it("is another kind of file", async () => {
    writeFileSync(input, "GGUF and much more text that is no safetensors header");
    await expectFailure(applyLine(), 3, badFile, /a safetensors header of at most/);
  });

  it("ends too early, wherever", async () => {
    const tiny = randomDump({ seed: 32, shape: { ...shape, layers: 1, tokens: 1, headDim: 8 } });
    await writeDump(input, tiny);
    const whole = bytesOf(input) as Buffer;
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(input, whole.subarray(0, length));
      await expectFailure(
        applyLine({ method: "full", options: "{}" }),
        3,
        badFile,
        /expected .+, got /,
      );
    }
    writeFileSync(input, whole);
    expect(await runCommand(...applyLine({ method: "full", options: "{}" }))).toMatchObject({
      status: 0,
    });
  });
});

/** Writes the dump with some tensors replaced (undefined: left out) and other metadata. */
async function writeBroken(
  replaced: Record<string, OutputTensor | undefined>,
  metadata: Record<string, string | undefined> = {},
): Promise<void> {
  const tensors = tensorsOf(dump).flatMap((tensor) =>
    tensor.name in replaced ? (replaced[tensor.name] ?? []) : tensor,
  );
  const all = { ...metadataOf(dump), ...metadata };
  const given = Object.entries(all).filter(
    (pair): pair is [string, string] => pair[1] !== undefined,
  );
  await writeSafetensors(input, tensors, Object.fromEntries(given));
}

const zeros = (name: string, sizes: number[], dtype: "F32" | "F16" = "F32") =>
  encode(name, dtype, sizes, new Float64Array(sizes.reduce((a, b) => a * b, 1))) as OutputTensor;

describe("status 4: missing tensors and metadata", () => {
  it("no tensor of a dump at all", async () => {
    await writeSafetensors(input, [zeros("weights", [4])], {});
    await expectFailure(applyLine(), 4, missingInput, /a tensor for layers.0.query, got none/);
  });

  it.each([
    ["layers.0.query", "snapkv"],
    ["layers.1.query", "full"],
    ["layers.1.value", "snapkv"],
    ["layers.1.key", "spindlekv"],
    ["layers.0.key", "streamingllm"],
  ])("%s for %s", async (name, method) => {
    await writeBroken({ [name]: undefined });
    const options = { full: "{}", streamingllm: '{"tokens":16}' }[method] ?? kOptions;
    const message = new RegExp(`a tensor for ${name.replaceAll(".", "\\.")}, got none`);
    await expectFailure(applyLine({ method, options }), 4, missingInput, message);
  });

  it("keys of either kind", async () => {
    await writeBroken({ "layers.1.key": undefined, "layers.1.key_rope": undefined });
    await expectFailure(applyLine(), 4, missingInput, /a tensor for layers.1.key, got none/);
  });

  it.each(["rope_theta", "rope_style"])("metadata %s where keys come before RoPE", async (name) => {
    await writeBroken({}, { [name]: undefined });
    const message = new RegExp(`metadata for metadata\\.${name}, got none`);
    await expectFailure(applyLine({ method: "spindlekv" }), 4, missingInput, message);
    expect(await runCommand(...applyLine())).toMatchObject({ status: 0 });
  });

  it("metadata rope_theta where queries come before RoPE", async () => {
    await writeBroken({}, { rope_theta: undefined, query_rope: "pre" });
    await expectFailure(applyLine(), 4, missingInput, /metadata for metadata.rope_theta, got none/);
  });
});

describe("status 4: wrong tensors and metadata", () => {
  it.each<[string, OutputTensor[], RegExp]>([
    [
      "queries of two axes",
      [zeros("layers.0.query", [4, 24])],
      /shape \[heads, tokens, headDim\] without zeros for layers.0.query, got \[4, 24\]/,
    ],
    ["no tokens", [zeros("layers.0.query", [4, 0, 16])], /without zeros for layers.0.query/],
    [
      "a head dim of 12",
      [zeros("layers.0.query", [4, 24, 12])],
      /a head dim of 8, 16, .. 512 for layers.0.query/,
    ],
    [
      "heads that do not divide",
      [zeros("layers.0.query", [5, 24, 16])],
      /query heads for each of the 2 KV heads for layers.0.query/,
    ],
    ["too large a group", [zeros("layers.0.query", [34, 24, 16])], /1 to 16 query heads/],
    [
      "more keys than queries",
      [zeros("layers.0.key_rope", [2, 25, 16])],
      /shape \[2, 24, 16\] for layers.0.key_rope, got \[2, 25, 16\]/,
    ],
    [
      "fewer values than keys",
      [zeros("layers.1.value", [2, 23, 16])],
      /shape \[2, 24, 16\] for layers.1.value, got \[2, 23, 16\]/,
    ],
    [
      "layers that differ",
      [zeros("layers.1.query", [8, 24, 16])],
      /shape \[4, 24, 16\] for layers.1.query/,
    ],
    [
      "integer values",
      [{ name: "layers.0.value", dtype: "I32", shape: [2, 24, 16], data: new Int32Array(768) }],
      /dtype F32, F16 or BF16 for layers.0.value, got "I32"/,
    ],
    [
      "keys of two dtypes",
      [zeros("layers.1.key_rope", [2, 24, 16], "F16")],
      /the dtype of layer 0 \(F32\) for layers.1.key_rope, got "F16"/,
    ],
  ])("%s", async (_, replaced, message) => {
    await writeBroken(Object.fromEntries(replaced.map((tensor) => [tensor.name, tensor])));
    await expectFailure(applyLine(), 4, usage, message);
  });

  it.each<[Record<string, string>, RegExp]>([
    [{ rope_theta: "many" }, /a number above 1 for metadata.rope_theta, got "many"/],
    [{ rope_theta: "1" }, /a number above 1 for metadata.rope_theta/],
    [{ rope_theta: "" }, /a number above 1 for metadata.rope_theta/],
    [{ rope_theta: "Infinity" }, /a number above 1 for metadata.rope_theta/],
    [{ rope_style: "interleaved" }, /"norm" or "neox" for metadata.rope_style, got "interleaved"/],
    [{ rope_dims: "18" }, /an even number in \[2, 16\] for metadata.rope_dims, got "18"/],
    [{ rope_dims: "7" }, /an even number in \[2, 16\] for metadata.rope_dims/],
    [{ query_rope: "before" }, /"pre" or "post" for metadata.query_rope, got "before"/],
  ])("metadata %o", async (metadata, message) => {
    await writeBroken({}, metadata);
    await expectFailure(applyLine({ method: "spindlekv" }), 4, usage, message);
  });
});

describe("status 5: numbers that are not finite", () => {
  const broken = (name: string, heads: number, head: number, token: number, value: number) => {
    const { tokens, headDim } = shape;
    const values = Float64Array.from({ length: heads * tokens * headDim }, (_, i) => Math.sin(i));
    values[(head * tokens + token) * headDim + 5] = value;
    return { [name]: encode(name, "F32", [heads, tokens, headDim], values) as OutputTensor };
  };
  it.each<[string, string, Record<string, OutputTensor>, string]>([
    [
      "NaN in keys",
      "snapkv",
      broken("layers.1.key_rope", 2, 1, 3, Number.NaN),
      "NaN at \\[1, 3, 5\\]",
    ],
    [
      "infinity in keys",
      "pyramidkv",
      broken("layers.0.key_rope", 2, 0, 0, Number.NEGATIVE_INFINITY),
      "-Infinity at \\[0, 0, 5\\]",
    ],
    [
      "NaN in queries",
      "snapkv",
      broken("layers.0.query", 4, 3, 20, Number.NaN),
      "NaN at \\[3, 20, 5\\]",
    ],
    [
      "NaN in keys",
      "spindlekv",
      broken("layers.0.key", 2, 0, 7, Number.NaN),
      "NaN at \\[0, 7, 5\\]",
    ],
    [
      "infinity in values",
      "spindlekv-paper",
      broken("layers.1.value", 2, 1, 9, Number.POSITIVE_INFINITY),
      "Infinity at \\[1, 9, 5\\]",
    ],
  ])("%s of %s", async (_, method, replaced, place) => {
    await writeBroken(replaced);
    const [name] = Object.keys(replaced);
    const message = new RegExp(`finite numbers for ${name}, got ${place}`);
    await expectFailure(applyLine({ method }), 5, "ERR_SPINDLEKV_NON_FINITE", message);
  });

  it("logits that overflow though keys and queries do not", async () => {
    const huge = (name: string, heads: number) =>
      encode(
        name,
        "F32",
        [heads, 24, 16],
        new Float64Array(heads * 24 * 16).fill(Math.fround(3e38)),
      );
    await writeBroken({
      "layers.0.query": huge("layers.0.query", 4) as OutputTensor,
      "layers.0.key_rope": huge("layers.0.key_rope", 2) as OutputTensor,
    });
    await expectFailure(applyLine(), 5, "ERR_SPINDLEKV_NON_FINITE", /finite keys and queries/);
  });

  it("is no failure where nothing is ranked by them", async () => {
    await writeBroken(broken("layers.1.value", 2, 1, 3, Number.NaN));
    expect(await runCommand(...applyLine())).toMatchObject({ status: 0 });
    await writeBroken(broken("layers.0.query", 4, 3, 2, Number.NaN));
    expect(await runCommand(...applyLine())).toMatchObject({ status: 0 });
  });
});

describe("status 6: the device", () => {
  it("is not there", async () => {
    const reason = await openDevice("cuda:9999").then(
      (device) => device.dispose(),
      (error: SpindleKVError) => error,
    );
    expect(reason).toBeInstanceOf(SpindleKVError);
    const { code } = reason as SpindleKVError;
    expect(code).toMatch(/^ERR_SPINDLEKV_NO_(DEVICE|BINARY)$/);
    await expectFailure(applyLine({ device: "cuda:9999" }), 6, code, /cuda/i);
  });
});

describe("status 7: anything else", () => {
  it("the output's folder is not there", async () => {
    const gone = join(folder, "no", "such", "file");
    await expectFailure(
      applyLine({ output: gone }),
      7,
      badFile,
      /a writable file for output.*ENOENT/,
    );
  });

  it("the output is a folder", async () => {
    const taken = join(folder, "taken");
    mkdirSync(taken, { recursive: true });
    await expectFailure(applyLine({ output: taken }), 7, badFile, /a writable file for output/);
    expect(readdirSync(folder).filter((name) => name.includes("partial"))).toEqual([]);
  });

  it.each([
    "ERR_SPINDLEKV_OUT_OF_MEMORY",
    "ERR_SPINDLEKV_CUDA",
    "ERR_SPINDLEKV_DEVICE_LOST",
    "ERR_SPINDLEKV_UNSUPPORTED",
    "ERR_SPINDLEKV_INTERNAL",
  ] as const)("%s", (code) => {
    const error = new SpindleKVError({ code, op: "attend", message: "attend: failed" });
    expect(endingOf(error)).toEqual({ status: 7, code });
  });

  it("errors that are not the library's", () => {
    const allocation = new RangeError("Array buffer allocation failed");
    expect(endingOf(allocation)).toEqual({ status: 7, code: "ERR_SPINDLEKV_OUT_OF_MEMORY" });
    expect(endingOf(new TypeError("x"))).toEqual({ status: 7, code: "ERR_SPINDLEKV_INTERNAL" });
    expect(endingOf("thrown text")).toEqual({ status: 7, code: "ERR_SPINDLEKV_INTERNAL" });
  });

  it("every code has a status between 2 and 7", () => {
    for (const code of Object.keys(errorCodes) as (keyof typeof errorCodes)[]) {
      const { status } = endingOf(new SpindleKVError({ code, op: "x", message: "x: y" }));
      expect(status).toBeGreaterThanOrEqual(2);
      expect(status).toBeLessThanOrEqual(7);
    }
  });
});
