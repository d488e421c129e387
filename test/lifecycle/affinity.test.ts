// On which processors the CPU backend's threads run: those that the process, or somebody later, allows them.
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { runChild, success } from "./child.ts";

const canPin = process.platform === "linux" && spawnSync("taskset", ["--version"]).status === 0;

// `threads()`: ids and allowed processors of the backend's threads, by Linux. `work()`: calls of many tasks each, with
// pauses in which threads fall asleep; what they gave.
const prelude = `
  import { execFileSync } from "node:child_process";
  import { readdirSync, readFileSync } from "node:fs";
  import { setTimeout } from "node:timers/promises";
  const of = (task, file) => readFileSync("/proc/self/task/" + task + "/" + file, "utf8");
  const allowed = (task) => {
    const list = /^Cpus_allowed_list:\\s*(.*)$/m.exec(of(task, "status"))[1];
    return list.split(",").flatMap((range) => {
      const [first, last = first] = range.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
  };
  const threads = () => readdirSync("/proc/self/task")
    .filter((task) => of(task, "comm").trim() === "spindlekv-cpu")
    .map((id) => ({ id, allowed: allowed(id) }));
  const pin = (task, cpu) => execFileSync("taskset", ["-pc", String(cpu), String(task)], { stdio: "ignore" });

  const device = await spindlekv.openDevice("cpu", { threads: 4 });
  const [rows, columns] = [4096, 64];
  const input = spindlekv.Tensor.from(device, "f32", [rows, columns], Float32Array.from({ length: rows * columns }, (_, i) => i % 7));
  const out = spindlekv.Tensor.zeros(device, "f32", [rows / 4, columns]);
  const work = async () => {
    const sums = new Set();
    for (let i = 0; i < 60; i++) {
      spindlekv.reduceGroup({ in: input, out, group: 4, kind: "sum" });
      sums.add((await out.read()).reduce((a, b) => a + b, 0));
      await setTimeout(i % 3);
    }
    return [...sums];
  };
  const expected = Array.from({ length: rows * columns }, (_, i) => i % 7).reduce((a, b) => a + b, 0);
`;

/** What the program's `report(more)` told, once it is sure that all of its work was right. */
async function reportOf(program: string) {
  const result = await runChild(`
    ${prelude}
    const report = (sums, more) => console.log(
      JSON.stringify({ ...more, threads: threads(), right: sums.length === 1 && sums[0] === expected }),
    );
    ${program}
    input.dispose(); out.dispose(); device.dispose();
  `);
  expect(result).toMatchObject(success);
  const { right, ...report } = JSON.parse(result.stdout);
  expect(right).toBe(true);
  return report;
}

describe.runIf(canPin)("threads of the CPU backend", () => {
  it("stay on the processors of the process", async () => {
    const { cpus, threads } = await reportOf(`
      const cpus = allowed(process.pid);
      report(await work(), { cpus });
    `);
    expect(threads).toHaveLength(3);
    for (const { allowed } of threads) {
      expect(allowed.length).toBeGreaterThan(0);
      expect(cpus).toEqual(expect.arrayContaining(allowed));
    }
  });

  // The first processor and the last one: threads that have kept off another so far are among them.
  it.each([
    ["from the start", "", 0],
    ["while they ran", "await work();", -1],
  ])("stay where the process was pinned from outside %s", async (_, before, index) => {
    const { at, threads } = await reportOf(`
      const at = allowed(process.pid).at(${index});
      ${before}
      for (const id of readdirSync("/proc/self/task")) pin(id, at);
      report(await work(), { at });
    `);
    expect(threads.map((thread: { allowed: number[] }) => thread.allowed)).toEqual([
      [at],
      [at],
      [at],
    ]);
  });
});
