// A process may end at any point of a handle's life: after opening, after making, in the middle of a call. Each
// prefix of a life runs in a child of its own and has to exit by itself with status 0 and nothing on stderr.
import { describe, expect, it } from "vitest";
import { runChild, success } from "./child.ts";

const call = `{
  in: first, out: second, group: 1, kind: "sum",
}`;

const life = [
  "const { openDevice, Tensor, reduceGroup, reduceGroupAsync } = spindlekv;",
  'const device = await openDevice("cpu");',
  'const first = Tensor.from(device, "f32", [1, 4], [1, 2, 3, 4]);',
  'const second = Tensor.zeros(device, "f32", [1, 4]);',
  "const view = first.view({ offset: 1, shape: [2], strides: [2] });",
  `reduceGroup(${call});`,
  `const pending = reduceGroupAsync(${call});`,
  "await pending;",
  "const reading = second.read();",
  "await reading;",
  "const synchronizing = device.synchronize();",
  "first.dispose();",
  "view.dispose();",
  "second.dispose();",
  "device.dispose();",
  "await synchronizing;",
  "first.dispose(); device.dispose();",
];

const endings = [
  { name: "by running out", code: "" },
  { name: "by process.exit", code: "process.exit(0);" },
];

describe.each(endings)("a process that ends $name", ({ code }) => {
  it.each(life.map((last, index) => ({ last, steps: index + 1 })))(
    "after $steps steps: $last",
    async ({ steps }) => {
      const result = await runChild([...life.slice(0, steps), code].join("\n"));
      expect(result).toMatchObject(success);
    },
  );
});

describe("a process that ends badly", () => {
  it("by an exception of its own, exits with status 1 and that message", async () => {
    const result = await runChild([...life.slice(0, 7), 'throw new Error("mine");'].join("\n"));
    expect(result).toMatchObject({ status: 1, signal: null });
    expect(result.stderr).toContain("mine");
  });
});
