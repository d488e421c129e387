import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { endingOf, exitStatuses } from "../../lib/cli/exit-status.ts";
import { methodSpecs } from "../../lib/cli/methods.ts";
import { type OutputTensor, writeSafetensors } from "../../lib/cli/safetensors-writer.ts";
import { errorCodes, openDevice, SpindleKVError } from "../../lib/index.ts";
import {
  bytesOf,
  encode,
  metadataOf,
  randomDump,
  runCommand,
  scratchFolder,
  tensorsOf,
  writeDump,
} from "./support.ts";

const folder = scratchFolder();
const input = join(folder, "dump.safetensors");
const output = join(folder, "out", "out.safetensors");
mkdirSync(join(folder, "out"));

const shape = { layers: 2, queryHeads: 4, kvHeads: 2, tokens: 24, headDim: 16 };
const dump = randomDump({ seed: 31, shape });
const kOptions = '{"tokens":16,"window":8}';

/** An apply command line that works, with some of its parts replaced; undefined leaves a flag out. */
function applyLine(replaced: Record<string, string | undefined> = {}): string[] {
  const flags: Record<string, string | undefined> = {
    method: "snapkv",
    options: kOptions,
    input,
    output,
    device: "cpu",
    ...replaced,
  };
  const given = Object.entries(flags).filter((flag) => flag[1] !== undefined);
  return ["apply", ...given.flatMap(([name, value]) => [`--${name}`, value as string])];
}

const kOldOutput = "what was there before";

beforeEach(async () => {
  await writeDump(input, dump);
  writeFileSync(output, kOldOutput);
});

/** The command fails so, says so on one line of stderr, and leaves the output and its folder alone. */
async function expectFailure(
  argv: readonly string[],
  status: number,
  code: string,
  message: RegExp,
): Promise<void> {
  const result = await runCommand(...argv);
  expect(result.stderr).toMatch(message);
  expect(result).toMatchObject({ status, stdout: "" });
  expect(result.stderr.startsWith(`spindlekv: ${code}: `), result.stderr).toBe(true);
  expect(result.stderr.endsWith("\n")).toBe(true);
  expect(bytesOf(output)?.toString()).toBe(kOldOutput);
  expect(readdirSync(join(folder, "out"))).toEqual(["out.safetensors"]);
}

describe("status 0", () => {
  it("apply says what was done and replaces the output", async () => {
    const result = await runCommand(...applyLine());
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toMatch(
      /^snapkv on cpu: 64 of 96 slots kept, \d+ bytes, [\d.]+ % of native f16\n$/,
    );
    expect(bytesOf(output)?.toString()).not.toBe(kOldOutput);
    expect(readdirSync(join(folder, "out"))).toEqual(["out.safetensors"]);
  });

  it.each(["auto", undefined])("apply --device %s finds a device", async (device) => {
    expect(await runCommand(...applyLine({ device }))).toMatchObject({ status: 0, stderr: "" });
  });

  it("apply may write over its input", async () => {
    expect(await runCommand(...applyLine({ output: input }))).toMatchObject({ status: 0 });
  });

  it.each([["--help"], ["-h"], ["apply", "--help"], ["methods", "--help"]])(
    "%s %s",
    async (...argv) => {
      const { status, stdout } = await runCommand(...argv);
      expect(status).toBe(0);
      for (const { name } of methodSpecs) expect(stdout).toContain(name);
      for (const ending of Object.values(exitStatuses)) {
        expect(stdout).toContain(`  ${ending.status}  ${ending.meaning}\n`);
      }
    },
  );

  it("--version is that of the package", async () => {
    const manifest = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(await runCommand("--version")).toMatchObject({
      status: 0,
      stdout: `${manifest.version}\n`,
    });
  });

  it("docs/cli.md lists every status", () => {
    const page = readFileSync("docs/cli.md", "utf8");
    for (const { status, meaning } of Object.values(exitStatuses)) {
      expect(page).toContain(`| ${status} | ${meaning} |`);
    }
  });
});

describe("methods", () => {
  it("lists every method with its options and defaults", async () => {
    const { status, stdout } = await runCommand("methods");
    expect(status).toBe(0);
    for (const { name, kebab, options } of methodSpecs) {
      expect(stdout).toContain(name === kebab ? `${name}: ` : `${name} (or ${kebab}): `);
      for (const option of options) expect(stdout).toContain(`    ${option.name} `);
    }
    expect(stdout).toMatch(/window +last queries that rank, 1..1024 \[8\]/);
    expect(stdout).toMatch(/thetaK .* \[0.98\]/);
  });

  it.each(methodSpecs)("$name: giving the defaults is giving nothing", (spec) => {
    const target = { keep: 0.2 };
    const defaults = spec.options.filter((option) => option.default !== undefined);
    const given = Object.fromEntries(defaults.map((option) => [option.name, option.default]));
    const bare = spec.make(target);
    const full = spec.make({ ...target, ...given });
    // A budget is compared by what it plans.
    const planOf = ({ budget }: typeof bare) =>
      [30, 100, 250].map((total) => budget?.plan(total, { layers: 4, context: 100 }));
    expect(planOf(full)).toEqual(planOf(bare));
    expect({ ...full, budget: null }).toEqual({ ...bare, budget: null });
    const hasNoDefault = spec.options.filter((option) => option.default === undefined);
    expect(hasNoDefault.map(({ name }) => name)).toEqual(
      spec.name === "full" ? [] : ["keep", "bytes", "tokens"],
    );
  });
});

const usage = "ERR_SPINDLEKV_ARGUMENT";

describe("status 2: usage", () => {
  it.each<[string, string[], RegExp]>([
    ["no command", [], /expected apply, methods, --help or --version for command, got undefined/],
    ["an unknown command", ["aply"], /for command, got "aply"/],
    ["a second command", ["methods", "apply"], /expected one command for arguments/],
    ["an unknown flag", [...applyLine(), "--frobnicate"], /'--frobnicate'/],
    ["a flag without its value", ["apply", "--method"], /--method/],
    ["no method", applyLine({ method: undefined }), /a method name after --method for method/],
    ["no input", applyLine({ input: undefined }), /a file name after --input for input/],
    ["no output", applyLine({ output: undefined }), /a file name after --output for output/],
    [
      "an unknown method",
      applyLine({ method: "h2o" }),
      /one of full, .*spindlekv-paper for method, got "h2o"/,
    ],
    ["another spelling of a method", applyLine({ method: "SnapKV" }), /for method, got "SnapKV"/],
    [
      "a device of another form",
      applyLine({ device: "gpu" }),
      /auto, cpu, cuda or cuda:<n> for device, got "gpu"/,
    ],
    ["the tests' device", applyLine({ device: "simt" }), /for device, got "simt"/],
  ])("%s", async (_, argv, message) => {
    await expectFailure(argv, 2, usage, message);
  });

  it.each<[string, string, string, RegExp]>([
    ["bad JSON", "snapkv", "{keep:0.2}", /a JSON object for options, got "{keep:0.2}"/],
    ["no object", "snapkv", "[]", /a JSON object for options/],
    ["null", "snapkv", "null", /a JSON object for options, got null/],
    [
      "an unknown option",
      "snapkv",
      '{"keep":0.5,"thetaK":0.9}',
      /an option of snapkv \(keep, bytes, .*kernel\) for options, got "thetaK"/,
    ],
    [
      "any option of full",
      "full",
      '{"keep":0.5}',
      /an option of full \(none\) for options, got "keep"/,
    ],
    ["an inherited name", "snapkv", '{"toString":1}', /for options, got "toString"/],
    ["no target", "snapkv", "{}", /exactly one of keep, bytes and tokens/],
    ["two targets", "snapkv", '{"keep":0.5,"tokens":9}', /exactly one of keep, bytes and tokens/],
    ["keep a string", "snapkv", '{"keep":"0.5"}', /a number for options.keep, got "0.5"/],
    ["keep null", "snapkv", '{"keep":null}', /a number for options.keep, got null/],
    ["keep 0", "snapkv", '{"keep":0}', /a fraction in \(0, 1\] for keep, got 0/],
    ["keep above 1", "snapkv", '{"keep":1.5}', /a fraction in \(0, 1\] for keep, got 1.5/],
    ["half a byte", "snapkv", '{"bytes":0.5}', /a positive integer for bytes, got 0.5/],
    ["no tokens", "snapkv", '{"tokens":0}', /a positive integer for tokens, got 0/],
    [
      "fewer tokens than the window",
      "snapkv",
      '{"tokens":7,"window":8}',
      /at least the 8 protected slots for target.tokens, got 7/,
    ],
    [
      "fewer bytes than the window",
      "snapkv",
      '{"bytes":600,"window":8}',
      /at least the \d+ bytes of the protected slots/,
    ],
    [
      "no more tokens than sinks",
      "streamingllm",
      '{"tokens":4}',
      /more than the 4 sinks for target.tokens, got 4/,
    ],
    [
      "window 0",
      "snapkv",
      '{"keep":0.5,"window":0}',
      /an integer in \[1, 1024\] for window, got 0/,
    ],
    [
      "an even kernel",
      "snapkv",
      '{"keep":0.5,"kernel":4}',
      /an odd integer in \[1, 1023\] for pool.kernel, got 4/,
    ],
    [
      "a kernel of words",
      "snapkv",
      '{"keep":0.5,"kernel":"7"}',
      /a number for options.kernel, got "7"/,
    ],
    [
      "another pooling",
      "snapkv",
      '{"keep":0.5,"pooling":"median"}',
      /"mean" or "max" or "none" for options.pooling, got "median"/,
    ],
    [
      "a kernel without pooling",
      "snapkv",
      '{"keep":0.5,"pooling":"none","kernel":5}',
      /"mean" or "max" beside a kernel/,
    ],
    [
      "a kernel where nothing is pooled",
      "spindlekv-paper",
      '{"keep":0.5,"kernel":5}',
      /"mean" or "max" beside a kernel/,
    ],
    [
      "pool twice",
      "snapkv",
      '{"keep":0.5,"pool":null,"kernel":5}',
      /either pool, or pooling and kernel/,
    ],
    [
      "pool a word",
      "snapkv",
      '{"keep":0.5,"pool":"max"}',
      /null or an object of kind, kernel and divisor for options.pool/,
    ],
    [
      "pool without kernel",
      "snapkv",
      '{"keep":0.5,"pool":{"kind":"max"}}',
      /a number for options.pool.kernel, got undefined/,
    ],
    [
      "pool of another kind",
      "snapkv",
      '{"keep":0.5,"pool":{"kind":"min","kernel":3}}',
      /for options.pool.kind, got "min"/,
    ],
    [
      "pool with more in it",
      "snapkv",
      '{"keep":0.5,"pool":{"kind":"max","kernel":3,"size":3}}',
      /kind, kernel or divisor for options.pool, got "size"/,
    ],
    [
      "another divisor",
      "snapkv",
      '{"keep":0.5,"pool":{"kind":"max","kernel":3,"divisor":"all"}}',
      /"kernel" or "valid" for options.pool.divisor/,
    ],
    ["another group", "snapkv", '{"keep":0.5,"group":"min"}', /for options.group, got "min"/],
    ["another norm", "snapkv", '{"keep":0.5,"norm":"l2"}', /for options.norm, got "l2"/],
    [
      "another visibility",
      "snapkv",
      '{"keep":0.5,"visibility":"all"}',
      /for options.visibility, got "all"/,
    ],
    [
      "negative sinks",
      "snapkv",
      '{"keep":0.5,"sinks":-1}',
      /an integer of 0 or more for sinks, got -1/,
    ],
    [
      "beta of the pyramid",
      "pyramidkv",
      '{"keep":0.5,"beta":1}',
      /a number above 1 for beta, got 1/,
    ],
    [
      "beta of the spindle",
      "spindlekv",
      '{"keep":0.5,"beta":1}',
      /a number in \(0, 1\) for beta, got 1/,
    ],
    ["thetaK above 1", "spindlekv", '{"keep":0.5,"thetaK":1.01}', /for thetaK, got 1.01/],
    [
      "another theta",
      "spindlekv",
      '{"keep":0.5,"theta":0.9}',
      /"fixed" or "auto" for options.theta, got 0.9/,
    ],
    ["too many rounds", "spindlekv", '{"keep":0.5,"refine":101}', /for refine, got 101/],
    ["negative codewords", "spindlekv", '{"keep":0.5,"codewords":-1}', /for codewords, got -1/],
    [
      "recentRaw a number",
      "spindlekv",
      '{"keep":0.5,"recentRaw":1}',
      /a boolean for options.recentRaw, got 1/,
    ],
    [
      "other positions",
      "streamingllm",
      '{"tokens":9,"positions":"slots"}',
      /for options.positions, got "slots"/,
    ],
  ])("%s", async (_, method, options, message) => {
    await expectFailure(applyLine({ method, options }), 2, usage, message);
  });
});

const badFile = "ERR_SPINDLEKV_FILE";

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

const missingInput = "ERR_SPINDLEKV_MISSING_INPUT";

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
