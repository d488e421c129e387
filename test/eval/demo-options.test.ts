import { describe, expect, it } from "vitest";
import { parseDemoOptions } from "../../examples/demo-options.ts";

describe("the demo's command line", () => {
  it("measures two dozen prompts of full length at four keep values by default", () => {
    const options = parseDemoOptions([]);
    expect(options).toMatchObject({ device: "auto", prompts: 24, sentences: 118 });
    expect(options.keeps).toEqual([0.3, 0.15, 0.1, 0.06]);
    expect(options.methods.map(({ name }) => name)).toContain("spindle-kv");
    expect(options.methods[0]).toEqual({ name: "full", hasTarget: false });
  });

  it("has a short setting, which single options override", () => {
    const quick = parseDemoOptions(["--quick", "--keep", "0.2"]);
    expect(quick).toMatchObject({ prompts: 4, keeps: [0.2], sentences: 60 });
    const chosen = parseDemoOptions(["--methods", "full,snap-kv", "--device", "cpu", "--out", "x"]);
    expect(chosen).toMatchObject({ device: "cpu", out: "x" });
    expect(chosen.methods.map(({ name }) => name)).toEqual(["full", "snap-kv"]);
  });

  it.each([
    [["--device", "tpu"], 'auto, cpu, cuda for --device, got "tpu"'],
    [["--prompts", "0"], 'whole number above 0 for --prompts, got "0"'],
    [["--prompts", "many"], 'for --prompts, got "many"'],
    [["--keep", "0.1,2"], 'up to 1 for --keep, got "0.1,2"'],
    [["--keep", "a"], 'for --keep, got "a"'],
    [["--methods", "full,none"], 'for --methods, got "none"'],
    [["--fast"], "Unknown option '--fast'"],
    [["extra"], "Unexpected argument 'extra'"],
  ])("refuses %j", (argv, message) => {
    expect(() => parseDemoOptions(argv)).toThrow(message);
  });
});
