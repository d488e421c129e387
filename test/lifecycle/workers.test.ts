// Worker threads: each has an environment of its own, may be ended at any moment, and cannot be handed handles.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { fakeBackendFolder } from "../contract/fake-backend.ts";
import { type ChildOptions, packageFolder, runChild, success } from "./child.ts";

const bundleUrl = pathToFileURL(join(packageFolder, "dist/index.mjs")).href;

/** A program that starts workers by `start(body)`; a worker has `spindlekv`, `post` and `workerData`. */
function runWithWorkers(program: string, options?: ChildOptions) {
  const prelude = `
    import { Worker } from "node:worker_threads";
    import { once } from "node:events";
    const prelude = \`
      import { parentPort, workerData } from "node:worker_threads";
      import * as spindlekv from ${JSON.stringify(bundleUrl)};
      const post = (value) => parentPort.postMessage(value);
    \`;
    const start = (body, workerData) => new Worker(
      new URL("data:text/javascript," + encodeURIComponent(prelude + body)), { workerData },
    );
  `;
  return runChild(prelude + program, options);
}

const sumInWorker = `
  const device = await spindlekv.openDevice("cpu");
  const input = spindlekv.Tensor.from(device, "f32", [2, 2], [1, 2, 3, 4]);
  const out = spindlekv.Tensor.zeros(device, "f32", [1, 2]);
  for (let i = 0; i < 20; i++) {
    await spindlekv.reduceGroupAsync({ in: input, out, group: 2, kind: "sum" });
  }
  post(Array.from(await out.read()));
  device.dispose();
`;

// A job that polls its cancel flag and otherwise runs for 20 seconds: longer than any test waits.
const endlessJob = `
  const device = await spindlekv.openDevice("cuda");
  const zeros = (dtype, shape) => spindlekv.Tensor.zeros(device, dtype, shape);
  const run = { codec: "raw", k: zeros("f32", [1, 8]), v: zeros("f32", [1, 8]), positions: zeros("i32", [1]) };
  const params = { q: zeros("f32", [1, 1, 8]), out: zeros("f32", [1, 1, 8]), heads: [[run]], queryPosition: 1000 };
`;

const mostMs = 10_000;

describe("worker threads", () => {
  it("work beside each other and beside the main thread", async () => {
    const result = await runWithWorkers(`
      const results = Array.from({ length: 4 }, () => once(start(${JSON.stringify(sumInWorker)}), "message"));
      const device = await spindlekv.openDevice("cpu");
      const tensor = spindlekv.Tensor.from(device, "f32", [2], [1, 2]);
      for (let i = 0; i < 50; i++) await tensor.read();
      console.log(JSON.stringify((await Promise.all(results)).flat()));
    `);
    expect(result).toMatchObject(success);
    expect(JSON.parse(result.stdout)).toEqual(Array(4).fill([4, 6]));
  });

  it("throw errors of their own environment's class", async () => {
    const body = `
      try { await spindlekv.openDevice("tpu"); }
      catch (error) { post([error instanceof spindlekv.SpindleKVError, error.code]); }
    `;
    const result = await runWithWorkers(`
      const [answer] = await once(start(${JSON.stringify(body)}), "message");
      console.log(JSON.stringify(answer));
    `);
    expect(result).toMatchObject(success);
    expect(JSON.parse(result.stdout)).toEqual([true, "ERR_SPINDLEKV_ARGUMENT"]);
  });

  it("refuse what is left of a handle that was posted to them", async () => {
    const body = `
      const device = await spindlekv.openDevice("cpu");
      const out = spindlekv.Tensor.zeros(device, "f32", [1, 2]);
      try { spindlekv.reduceGroup({ in: workerData, out, group: 1, kind: "sum" }); }
      catch (error) { post(error.code); }
    `;
    const result = await runWithWorkers(`
      const device = await spindlekv.openDevice("cpu");
      const tensor = spindlekv.Tensor.zeros(device, "f32", [1, 2]);
      const clone = { ...tensor, device: undefined };
      const [code] = await once(start(${JSON.stringify(body)}, clone), "message");
      console.log(code);
    `);
    expect(result).toMatchObject(success);
    expect(result.stdout.trim()).toBe("ERR_SPINDLEKV_ARGUMENT");
  });
});

describe("a worker that is terminated", () => {
  const options = () => ({ env: { SPINDLEKV_BACKEND_DIR: fakeBackendFolder() } });

  it("in the middle of a job neither crashes the process nor waits for the job", async () => {
    const body = `${endlessJob} spindlekv.attendAsync(params); spindlekv.attendAsync(params);
      setTimeout(() => post("running"), 50);`;
    const result = await runWithWorkers(
      `
      for (let i = 0; i < 5; i++) {
        const worker = start(${JSON.stringify(body)});
        await once(worker, "message");
        await worker.terminate();
      }
      console.log("alive");
      `,
      options(),
    );
    expect(result).toMatchObject(success);
    expect(result.stdout.trim()).toBe("alive");
    expect(result.durationMs).toBeLessThan(mostMs);
  });

  it("while results arrive, at any moment, does not crash the process", async () => {
    const body = `${endlessJob}
      params.queryPosition = 0;
      post("running");
      for (;;) await Promise.all(Array.from({ length: 8 }, () => spindlekv.attendAsync(params)));`;
    const result = await runWithWorkers(
      `
      for (let i = 0; i < 20; i++) {
        const worker = start(${JSON.stringify(body)});
        await once(worker, "message");
        await new Promise((done) => setTimeout(done, i));
        await worker.terminate();
      }
      `,
      options(),
    );
    expect(result).toMatchObject(success);
  });

  it("by process.exit() inside it, in the middle of a job, ends alone", async () => {
    const body = `${endlessJob} spindlekv.attendAsync(params); setTimeout(() => process.exit(3), 50);`;
    const result = await runWithWorkers(
      `const [status] = await once(start(${JSON.stringify(body)}), "exit"); console.log(status);`,
      options(),
    );
    expect(result).toMatchObject(success);
    expect(result.stdout.trim()).toBe("3");
    expect(result.durationMs).toBeLessThan(mostMs);
  });
});

describe("a process that exits in the middle of a job", () => {
  it("by process.exit() does not wait for it", async () => {
    const result = await runChild(
      `${endlessJob} spindlekv.attendAsync(params); setTimeout(() => process.exit(0), 50);`,
      { env: { SPINDLEKV_BACKEND_DIR: fakeBackendFolder() } },
    );
    expect(result).toMatchObject(success);
    expect(result.durationMs).toBeLessThan(mostMs);
  });
});
