import { describe, expect, it } from "vitest";
import { benchOptions } from "../../bench/options.ts";

describe("the command line of the benchmarks", () => {
  it("reads a suite, --quick and --only", () => {
    expect(benchOptions(["first"])).toEqual({ command: "first", quick: false, only: [] });
    expect(benchOptions(["ops", "--quick", "--only", "attend,rope"])).toEqual({
      command: "ops",
      quick: true,
      only: ["attend", "rope"],
    });
  });

  it("refuses what it does not know", () => {
    expect(() => benchOptions([])).toThrow("for command, got none");
    expect(() => benchOptions(["all"])).toThrow("for command, got all");
    expect(() => benchOptions(["ops", "--fast"])).toThrow("for option, got --fast");
    expect(() => benchOptions(["ops", "--only"])).toThrow("for option, got --only");
  });
});
