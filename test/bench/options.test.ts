import { describe, expect, it } from "vitest";
import { benchOptions } from "../../bench/options.ts";

const defaults = { quick: false, only: [], device: "cpu" };

describe("the command line of the benchmarks", () => {
  it("reads a suite by its place or by --suite, --quick and --only", () => {
    expect(benchOptions(["first"])).toEqual({ ...defaults, command: "first" });
    expect(benchOptions(["--suite", "cpu"])).toEqual({ ...defaults, command: "cpu" });
    expect(benchOptions(["--quick", "--suite", "cpu"])).toEqual({
      ...defaults,
      command: "cpu",
      quick: true,
    });
    expect(benchOptions(["ops", "--quick", "--only", "attend,rope"])).toEqual({
      ...defaults,
      command: "ops",
      quick: true,
      only: ["attend", "rope"],
    });
    expect(benchOptions(["report"])).toEqual({ ...defaults, command: "report" });
  });

  it("reads the device of the suite ops", () => {
    expect(benchOptions(["ops", "--device", "cuda"]).device).toBe("cuda");
    expect(benchOptions(["--device", "cuda:1", "--suite", "ops"]).device).toBe("cuda:1");
    expect(benchOptions(["cpu", "--device", "cpu"]).device).toBe("cpu");
  });

  it("refuses what it does not know", () => {
    expect(() => benchOptions([])).toThrow("for suite, got none");
    expect(() => benchOptions(["all"])).toThrow("for suite, got all");
    expect(() => benchOptions(["--suite"])).toThrow("for suite, got none");
    expect(() => benchOptions(["ops", "cpu"])).toThrow("for option, got cpu");
    expect(() => benchOptions(["ops", "--fast"])).toThrow("for option, got --fast");
    expect(() => benchOptions(["ops", "--only"])).toThrow("for option, got --only");
    expect(() => benchOptions(["ops", "--device", "gpu"])).toThrow("for --device, got gpu");
    expect(() => benchOptions(["ops", "--device"])).toThrow("for --device, got none");
    expect(() => benchOptions(["first", "--device", "cuda"])).toThrow("with suite first, got cuda");
  });
});
