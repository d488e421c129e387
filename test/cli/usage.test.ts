import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exitStatuses } from "../../lib/cli/exit-status.ts";
import { methodSpecs } from "../../lib/cli/methods.ts";
import { applyLine, expectFailure, folder, input, kOldOutput, output, usage } from "./failing.ts";
import { bytesOf, runCommand } from "./support.ts";

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
    const target = { ...(spec.hasTarget ? { keep: 0.2 } : {}), ...spec.required };
    const defaults = spec.options.filter((option) => option.default !== undefined);
    const given = Object.fromEntries(defaults.map((option) => [option.name, option.default]));
    const bare = spec.make(target);
    const full = spec.make({ ...target, ...given });
    // Parts are compared by what they were made with.
    expect(JSON.parse(JSON.stringify(full))).toEqual(JSON.parse(JSON.stringify(bare)));
    const hasNoDefault = spec.options.filter((option) => option.default === undefined);
    expect(hasNoDefault.map(({ name }) => name)).toEqual([
      ...(spec.hasTarget ? ["keep", "bytes", "tokens"] : []),
      ...Object.keys(spec.required),
    ]);
  });

  it("no target where the method finds its size, or keeps everything", () => {
    const without = methodSpecs.filter(({ hasTarget }) => !hasTarget);
    expect(without.map(({ name }) => name)).toEqual(["full", "dbudgetkv"]);
  });

  it("every method of the library is there", () => {
    const files = readdirSync("lib/methods").map((name) => name.replace(/\.ts$/, ""));
    const parts = ["compose", "target"];
    const kebabs = methodSpecs.map(({ kebab }) => kebab);
    expect(kebabs.filter((kebab) => kebab !== "spindle-kv-paper").toSorted()).toEqual(
      files.filter((name) => !parts.includes(name)).toSorted(),
    );
  });

  it("docs/cli.md names every method", () => {
    const page = readFileSync("docs/cli.md", "utf8");
    for (const { name } of methodSpecs) expect(page).toContain(`\`${name}\``);
  });
});

describe("status 2: usage", () => {
  it.each<[string, string[], RegExp]>([
    [
      "no command",
      [],
      /expected apply, eval, methods, --help or --version for command, got undefined/,
    ],
    ["an unknown command", ["aply"], /for command, got "aply"/],
    ["a second command", ["methods", "apply"], /expected one command for arguments/],
    ["an unknown flag", [...applyLine(), "--frobnicate"], /'--frobnicate'/],
    ["a flag without its value", ["apply", "--method"], /--method/],
    ["no method", applyLine({ method: undefined }), /a method name after --method for method/],
    ["no input", applyLine({ input: undefined }), /a file name after --input for input/],
    ["no output", applyLine({ output: undefined }), /a file name after --output for output/],
    [
      "an unknown method",
      applyLine({ method: "h3o" }),
      /one of full, .*spindlekv-paper for method, got "h3o"/,
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
    ["a target of a method without", "dbudgetkv", '{"keep":0.5}', /for options, got "keep"/],
    ["no list of layers", "dbudgetkv", '{"skipLayers":2}', /a list of layers, or "sixteenth"/],
    ["a list of words", "dbudgetkv", '{"skipLayers":["0"]}', /a list of layers, or "sixteenth"/],
    ["a layer twice", "dbudgetkv", '{"skipLayers":[1,1]}', /different layers, or "sixteenth"/],
    ["no profile", "baklava", '{"keep":0.5}', /a value for method baklava for options.profile/],
    ["a list as profile", "baklava", '{"keep":0.5,"profile":[1]}', /an object for options.profile/],
    [
      "a profile without a table",
      "baklava",
      '{"keep":0.5,"profile":{"model":"m","tau":1,"least":0}}',
      /numbers of 0 or more by layer and head for importance/,
    ],
    [
      "a schedule that is a number",
      "h2o",
      '{"keep":0.5,"schedule":3}',
      /a word or an object for options.schedule, got 3/,
    ],
    [
      "another schedule",
      "tova",
      '{"keep":0.5,"schedule":"sometimes"}',
      /"every-step" for schedule, got "sometimes"/,
    ],
    ["another policy", "squeezeattention", '{"keep":0.5,"policy":"h3o"}', /for options.policy/],
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
