// The command on the recall model: small plans, the files they leave, resuming and refusals.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { evalRequest } from "../../lib/cli/eval-options.ts";
import { makeEvalMethod, parseMethods, policyOf } from "../../lib/cli/eval-methods.ts";
import { methodSpecs } from "../../lib/cli/methods.ts";
import type { EvalReport } from "../../lib/eval/eval-report.ts";
import { heldOutDocument } from "../../lib/eval/held-out.ts";
import { smallModel } from "../runtimes/small-model.ts";
import { sentencePieceVocabulary } from "../runtimes/small-vocabularies.ts";
import { type RunResult, runCommand, scratchFolder } from "./support.ts";

const model = new URL("../model/recall.gguf", import.meta.url).pathname;
const folder = scratchFolder();

describe("the methods of an evaluation", () => {
  it("are all of the registry by default", () => {
    const { methods } = evalRequest(["--model", model]);
    expect(new Set(methods.map(({ spec }) => spec))).toEqual(new Set(methodSpecs));
    const targeted = methods.filter(({ hasTarget }) => hasTarget).map(({ label }) => label);
    expect(targeted).toContain("snapkv");
    expect(targeted).not.toContain("full");
  });

  it("take options behind colons", () => {
    const [method] = parseMethods("streaming-llm:positions=reindexed:sinks=8");
    expect(method.label).toBe("streamingllm:positions=reindexed:sinks=8");
    const made = makeEvalMethod(method, { keep: 0.2 });
    expect(made).toMatchObject({ positions: "reindexed", target: { keep: 0.2 } });
    expect(made.select?.sinks).toBe(8);
  });

  it("read a value from a file", () => {
    const path = join(folder, "pool.json");
    writeFileSync(path, '{"kind":"mean","kernel":5,"divisor":"valid"}');
    const [method] = parseMethods(`snapkv:pool=@${path}`);
    expect(makeEvalMethod(method, { keep: 0.2 }).score?.options.pool).toEqual({
      ...{ kind: "mean", kernel: 5, divisor: "valid" },
    });
    expect(() => parseMethods(`snapkv:pool=@${path}.gone`)).toThrow(
      expect.objectContaining({ code: "ERR_SPINDLEKV_FILE" }),
    );
  });

  it.each([
    [["--methods", "nosuch"], "method"],
    [["--methods", "snapkv:window"], "methods"],
    [["--methods", "snapkv,snap-kv"], "methods"],
    [["--keep", "0.2,x"], "keep"],
    [["--keep", "1.5"], "keep"],
    [["--keep", "0.2,0.2"], "keep"],
    [["--depths", "2"], "depths"],
    [["--seeds=-1"], "seeds"],
    [["--prompts", "0"], "prompts"],
    [["--prompts", "1,2"], "prompts"],
    [["--texts", ""], "texts"],
    [["--lengths", "10.5"], "lengths"],
    [["--protocols", "open"], "protocols"],
    [["--experiments", "long"], "experiments"],
    [["--subject", "nosuch"], "subject"],
    [["--device", "gpu"], "device"],
  ])("and flags are checked: %j", (argv, param) => {
    expect(() => evalRequest(["--model", model, ...argv])).toThrow(
      expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT", param }),
    );
  });
});

describe("spindlekv eval", () => {
  const output = join(folder, "run");
  const flags = [
    ...["eval", "--model", model, "--methods", "full,slidingwindow,snapkv", "--keep", "0.4,0.2"],
    ...["--lengths", "300", "--depths", "0.3,0.8", "--seeds", "1", "--texts", "1"],
    ...["--experiments", "none", "--device", "cpu", "--output", output],
  ];
  const journal = join(output, "eval.jsonl");
  const report = () => JSON.parse(readFileSync(join(output, "eval.json"), "utf8"));

  it("measures, and leaves a report, a page and a journal", async () => {
    const { status, stdout, stderr } = await runCommand(...flags);
    expect(stderr).toMatch(/2 prompts, 1 texts, 3 methods on cpu/);
    expect(status).toBe(0);
    expect(stdout).toMatch(/hidden +snapkv +0\.2 /);
    const { rows, texts, comparisons, heads, places } = report();
    expect(rows).toHaveLength(2 * (1 + 2 + 2));
    expect(texts).toHaveLength(1 + 2 + 2);
    expect(places.map(({ depth }: { depth: number }) => depth)).toEqual([0.3, 0.8]);
    expect(comparisons.every(({ method }: { method: string }) => method === "full")).toBe(true);
    // Bytes are measured: at most the target, and heads add up to what the layer holds but for slack.
    for (const { keep, bytes } of rows)
      if (keep !== null) expect(bytes.high).toBeLessThanOrEqual(keep);
    const [snap] = heads.filter((each: { method: string }) => each.method === "snapkv");
    expect(snap.slots).toHaveLength(6);
    for (const layer of snap.slots) for (const slots of layer) expect(slots).toBeGreaterThan(32);
    const full = rows.find(({ method }: { method: string }) => method === "full");
    expect(full.recall.value).toBe(1);
    expect(readFileSync(join(output, "eval.html"), "utf8")).toContain("Kept tokens of one prompt");
  });

  it("goes on where it was cut off, and runs nothing twice", async () => {
    const before = report();
    const lines = readFileSync(journal, "utf8").trimEnd().split("\n");
    // Cut within the eighth measurement; mark one of those that stay.
    const kept = lines.slice(0, 8).map((line) => {
      const { kind, key, value } = JSON.parse(line);
      return kind === "needle"
        ? JSON.stringify({ kind, key, value: { ...value, compressMs: 12345 } })
        : line;
    });
    const isMarked = (line: string) => JSON.parse(line).value?.compressMs === 12345;
    const marked = kept.filter(isMarked).length;
    expect(marked).toBeGreaterThan(0);
    writeFileSync(journal, `${kept.join("\n")}\n${lines[8].slice(0, 20)}`);
    const { status } = await runCommand(...flags, "--resume");
    expect(status).toBe(0);
    const after = readFileSync(journal, "utf8").trimEnd().split("\n");
    expect(after.filter(isMarked)).toHaveLength(marked);
    const keys = after.slice(1).map((line) => `${JSON.parse(line).kind} ${JSON.parse(line).key}`);
    expect(new Set(keys).size).toBe(keys.length);
    // The same answers, whatever the clock said.
    const answers = ({
      rows,
    }: {
      rows: { recall: object; logProbability: object; bytes: object }[];
    }) => rows.map(({ recall, logProbability, bytes }) => ({ recall, logProbability, bytes }));
    expect(answers(report())).toEqual(answers(before));
    expect(report().texts).toEqual(before.texts);
  });

  it.each([
    [[], 2, /expected --resume or another folder for output/],
    [
      ["--resume", "--seeds", "7"],
      2,
      /expected the settings of .*eval\.jsonl for seeds, that is \[1\], got \[7\]/,
    ],
    [["--resume", "--keep", "0.4"], 2, /for keeps, that is \[0\.4,0\.2\], got \[0\.4\]/],
    [
      ["--lengths", "4000"],
      2,
      /expected at most 1984 tokens with this model for lengths, got 4000/,
    ],
    [
      ["--model", `${model}.gone`],
      3,
      /ERR_SPINDLEKV_FILE: eval: expected a readable file for model/,
    ],
    [["--text", `${folder}/gone.txt`], 3, /expected a readable file for text/],
    [["--output", join(model, "below")], 7, /expected a writable file for output/],
  ] as const)("refuses %j with status %i", async (more, status, message) => {
    const before = readFileSync(journal, "utf8");
    const result = await runCommand(...flags, ...more);
    expect(result.stderr).toMatch(message);
    expect(result.status).toBe(status);
    expect(readFileSync(journal, "utf8")).toBe(before);
  });

  it("lists what a method refused, with the reason", async () => {
    const small = join(folder, "small");
    const { status, stdout } = await runCommand(
      ...["eval", "--model", model, "--methods", "snapkv", "--keep", "0.05", "--lengths", "200"],
      ...["--depths", "0.5", "--seeds", "1", "--protocols", "hidden", "--texts", "1"],
      ...["--experiments", "none", "--device", "cpu", "--output", small],
    );
    expect(status).toBe(0);
    expect(stdout).toMatch(/not run: snapkv keep 0\.05: compress: expected at least the \d+ bytes/);
  });

  it("reads the user's text", async () => {
    const own = join(folder, "own.txt");
    writeFileSync(own, "Nora carried the lantern near the old mill. ".repeat(150));
    const { status, stderr } = await runCommand(
      ...["eval", "--model", model, "--methods", "full", "--lengths", "100", "--depths", "0.5"],
      ...["--seeds", "1", "--protocols", "hidden", "--texts", "9", "--text", own],
      ...["--experiments", "none", "--device", "cpu", "--output", join(folder, "own")],
    );
    expect(stderr).toMatch(/1 prompts, 1 texts/);
    expect(status).toBe(0);
  });
});

describe("the experiments, on a model of another architecture and tokenizer", () => {
  let ran: RunResult;
  let report: EvalReport;

  beforeAll(async () => {
    const path = join(folder, "small.gguf");
    const output = join(folder, "experiments");
    const { first, second } = heldOutDocument({
      ...{ seed: 1, sentences: 60, sentencesBehind: 20, facts: 8, questions: 8 },
    });
    const vocabulary = sentencePieceVocabulary(`${first} ${second}`, 400);
    writeFileSync(path, smallModel({ architecture: "qwen3", weights: "f16", seed: 5 }, vocabulary));
    ran = await runCommand(
      ...["eval", "--model", path, "--methods", "streamingllm,h2o", "--keep", "0.5"],
      ...["--depths", "0.5", "--seeds", "1", "--texts", "1", "--device", "cpu"],
      ...["--output", output],
    );
    if (ran.status !== 0) return; // the first test says so
    report = JSON.parse(readFileSync(join(output, "eval.json"), "utf8"));
  });

  it("run with lengths that the model was trained on", () => {
    expect(ran.stderr).toMatch(/2000 tokens decoded, caps of 64/);
    expect(ran.status).toBe(0);
    expect(report.contextLength).toBe(256);
    expect(report.settings.lengths).toBe("192");
    expect(report.rows.map(({ method }) => method)).toEqual(
      ["hidden", "visible"].flatMap(() => ["streamingllm", "h2o"]),
    );
  });

  it("read four times the trained context, in full and by the methods that go by position", () => {
    const { longTexts } = report;
    expect(new Set(longTexts.map(({ method }) => method))).toEqual(
      new Set(["full", "streamingllm:positions=original", "streamingllm:positions=reindexed"]),
    );
    for (const { blocks } of longTexts) {
      expect(blocks).toHaveLength(32);
      expect(blocks[31].to).toBe(4 * 256 - 1);
      for (const { loss } of blocks) expect(loss).toBeGreaterThan(0);
    }
    // Up to the cap nothing is dropped: all read the same text the same way.
    const firsts = longTexts.filter(({ text }) => text === 0).map(({ blocks }) => blocks[0].loss);
    for (const loss of firsts) expect(loss).toBeCloseTo(firsts[0], 2);
  });

  it("decode 2,000 tokens: memory grows in full and stays flat under a cap", () => {
    const { longDecodes } = report;
    expect(longDecodes.map(({ method }) => method)).toEqual(["full", "streamingllm", "h2o"]);
    for (const { method, samples } of longDecodes) {
      expect(samples.at(-1)?.step).toBe(2000);
      const used = samples.slice(5).map(({ poolBytes }) => poolBytes);
      const growth = used[used.length - 1] / used[0];
      if (method === "full") expect(growth).toBeGreaterThan(3);
      else expect(Math.max(...used) / Math.min(...used)).toBeLessThan(2.5);
      if (method !== "full") expect(growth).toBeLessThan(1.5);
    }
  });
});

describe("methods over the policies of others", () => {
  const over = methodSpecs.filter(({ options }) =>
    options.some(({ name, type }) => name === "policy" && Array.isArray(type)),
  );

  it("are tried with each policy, and know the method that has it alone", () => {
    const { methods } = evalRequest(["--model", model]);
    for (const { name, options } of over) {
      const words = options.find((option) => option.name === "policy")?.type as readonly string[];
      const labels = words.map((word) => `${name}:policy=${word}`);
      expect(methods.map(({ label }) => label)).toEqual(expect.arrayContaining(labels));
      for (const label of labels) {
        const [method] = parseMethods(label);
        expect(policyOf(method, methods)?.spec.kebab).toBe(method.options.policy);
      }
    }
  });

  it("have none where the other method is not among those tried", () => {
    const methods = parseMethods("snapkv");
    expect(policyOf(methods[0], methods)).toBeUndefined();
  });
});
