// Every method through `apply`: what is kept is what a cache keeps that a runtime feeds with the same numbers.
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeMethod, methodSpecs } from "../../lib/cli/methods.ts";
import { type OutputTensor, writeSafetensors } from "../../lib/cli/safetensors-writer.ts";
import { KVCache, openDevice, readStoredSlots } from "../../lib/index.ts";
import {
  type DumpPart,
  encode,
  kHiddenWidth,
  metadataOf,
  randomDump,
  readAll,
  runCommand,
  scratchFolder,
  tensorsOf,
  writeDump,
} from "./support.ts";

const folder = scratchFolder();
const input = join(folder, "dump.safetensors");
const output = join(folder, "out.safetensors");
const parts: DumpPart[] = ["query", "key", "key_rope", "value", "hidden_in", "hidden_out"];
const shape = { layers: 4, queryHeads: 6, kvHeads: 2, tokens: 90, headDim: 16 };
const dump = randomDump({ seed: 71, shape, directions: 12 });
const profile = {
  model: "random",
  importance: [
    [1, 2],
    [3, 1],
    [1, 1],
    [2, 5],
  ],
  tau: 0.5,
  least: 0.2,
};

async function applied(method: string, options: object) {
  const flags = ["--input", input, "--output", output, "--device", "cpu"];
  const json = JSON.stringify(options);
  const result = await runCommand("apply", "--method", method, "--options", json, ...flags);
  expect(result).toMatchObject({ status: 0, stderr: "" });
  const { tensors, metadata } = await readAll(output);
  const kept = Array.from({ length: shape.layers }, (_, l) => {
    const budget = tensors.get(`layers.${l}.budget`)?.values ?? [];
    const rows = tensors.get(`layers.${l}.kept`)?.values ?? [];
    const longest = Math.max(...budget);
    return budget.map((slots, head) => rows.slice(head * longest, head * longest + slots));
  });
  return { kept, report: JSON.parse(metadata.get("report") ?? "") };
}

/** The same through the library: everything appended and asked before RoPE, every hook of a runtime called. */
async function keptByCache(name: string, options: object) {
  const { method } = makeMethod(name, JSON.stringify(options));
  using device = await openDevice("cpu");
  using cache = new KVCache(device, { ...shape, dtype: "f32", method, rope: dump.rope });
  for (const layer of cache.layers) {
    const { key, value, queryPre, hiddenIn, hiddenOut } = dump.layers[layer.index];
    layer.observe(Float32Array.from(hiddenIn), Float32Array.from(hiddenOut), shape.tokens);
    layer.append(Float32Array.from(key), Float32Array.from(value), shape.tokens);
    const q = Float32Array.from(queryPre);
    await layer.attend(q, new Float32Array(q.length), shape.tokens);
  }
  await cache.compress();
  const kept: number[][][] = [];
  for (const { index } of cache.layers) {
    const heads = [0, 1].map((head) => readStoredSlots(cache, index, head));
    kept.push((await Promise.all(heads)).map(({ positions }) => Array.from(positions)));
  }
  return kept;
}

/** Options beside the target that make a method do something on 90 tokens. */
const options: Record<string, object> = {
  snapkv: { window: 8 },
  pyramidkv: {},
  adakv: { window: 8, floor: 0.1 },
  dynamickv: {},
  zigzagkv: { window: 8, mass: 0.7 },
  cake: { window: 8, gamma: 50, tau1: 2 },
  lava: { window: 8 },
  baklava: { window: 8, profile },
  pyramidinfer: { decay: 0.6 },
  h2o: { recentShare: 0.3, sinks: 1 },
  tova: { scope: "kv-head", recent: 2 },
  prefixkv: { sinks: 2 },
  squeezeattention: { p: 0.3, policy: "h2o" },
  dbudgetkv: { loss: 0.1, least: 9, skipLayers: [1] },
  l2norm: { skipLayers: [0] },
  keydiff: { recent: 3 },
  lagkv: { lag: 12 },
  expectedattention: { heads: "adaptive", epsilon: 0.01, futurePositions: 64 },
  spindlekv: { window: 8 },
  "spindlekv-paper": { window: 8 },
};

describe("apply keeps what the library keeps", () => {
  it.each(methodSpecs)("$name", async ({ name, hasTarget }) => {
    await writeDump(input, dump, { parts });
    const target = hasTarget ? { tokens: 40 } : {};
    const given = { ...target, ...options[name] };
    const { kept, report } = await applied(name, given);
    expect(kept).toEqual(await keptByCache(name, given));
    const slots = kept.flat(2).length;
    expect(report.slots).toBe(slots);
    const all = shape.layers * shape.kvHeads * shape.tokens;
    if (name === "full") expect(slots).toBe(all);
    else expect(slots).toBeLessThan(all);
    // The union of query heads' selections may take more than the target asks of each.
    const isExact = hasTarget && name !== "spindlekv-paper";
    if (isExact) expect(slots).toBe(shape.layers * shape.kvHeads * 40);
  });

  it.each(["sliding-window", "streaming-llm"])("squeezeattention over %s", async (policy) => {
    await writeDump(input, dump, { parts });
    const given = { tokens: 30, policy };
    const { kept } = await applied("squeeze-attention", given);
    expect(kept).toEqual(await keptByCache("squeezeattention", given));
    const lengths = kept.map(([first]) => first.length);
    expect(new Set(lengths).size).toBeGreaterThan(1);
    expect(lengths.reduce((a, b) => a + b, 0)).toBe(4 * 30);
  });

  it("every option of the table is one of a method", () => {
    const names = methodSpecs.map(({ name }) => name);
    for (const name of Object.keys(options)) expect(names).toContain(name);
  });
});

describe("what a method needs and the dump does not hold", () => {
  const flags = ["--input", input, "--output", output, "--device", "cpu"];
  const run = (method: string) =>
    runCommand("apply", "--method", method, "--options", '{"tokens":40}', ...flags);

  it.each(["hidden_in", "hidden_out"] as const)("squeezeattention without %s", async (part) => {
    await writeDump(input, dump, { parts: parts.filter((name) => name !== part) });
    const { status, stderr } = await run("squeezeattention");
    expect(status).toBe(4);
    expect(stderr).toMatch(
      new RegExp(`MISSING_INPUT: .*layers.0.${part}, got none \\(method squeeze-attention needs`),
    );
  });

  it.each([
    ["layers.0.hidden_in", [1, shape.tokens, kHiddenWidth], "shape \\[90, width\\]"],
    ["layers.0.hidden_in", [shape.tokens, kHiddenWidth + 1], "shape \\[90, 25\\]"],
    ["layers.3.hidden_out", [shape.tokens - 1, kHiddenWidth], "shape \\[90, 24\\]"],
  ])("squeezeattention with %s of shape %s", async (name, size, message) => {
    const numbers = size.reduce((product, n) => product * n, 1);
    const wrong = encode(name, "F32", size, new Float64Array(numbers)) as OutputTensor;
    const tensors = tensorsOf(dump, { parts }).map((each) => (each.name === name ? wrong : each));
    await writeSafetensors(input, tensors, metadataOf(dump));
    const { status, stderr } = await run("squeezeattention");
    expect(status).toBe(4);
    expect(stderr).toMatch(new RegExp(`ERR_SPINDLEKV_ARGUMENT: apply: expected ${message} for `));
  });

  it("squeezeattention with a stream that is not finite", async () => {
    const layers = dump.layers.map((layer) => ({ ...layer, hiddenIn: layer.hiddenIn.slice() }));
    layers[2].hiddenIn[5 * kHiddenWidth + 3] = Number.NaN;
    await writeDump(input, { ...dump, layers }, { parts });
    const { status, stderr } = await run("squeezeattention");
    expect(status).toBe(5);
    expect(stderr).toContain("layers.2.hidden_in, got NaN at [5, 3]");
  });

  it("expectedattention without keys before RoPE", async () => {
    await writeDump(input, dump, { parts: ["query", "key_rope", "value"] });
    const { status, stderr } = await run("expectedattention");
    expect(status).toBe(4);
    expect(stderr).toMatch(/MISSING_INPUT: .*layers.0.key, got none/);
  });
});
