import { describe, expect, it } from "vitest";
import { cpuRows } from "../../bench/report/rows.ts";
import { cpu } from "../../bench/suites/cpu.ts";

describe("the rows of the page", () => {
  const asked = cpuRows.flatMap(({ jobs }) => jobs);

  it("show every job of the suite cpu that has goals, once", () => {
    const withGoals = cpu.jobs.filter((job) => !job.startsWith("scaling-"));
    for (const job of withGoals) expect(asked).toContain(job);
    expect(new Set(asked).size).toBe(asked.length);
  });
});
