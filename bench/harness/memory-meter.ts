/**
 * The machine's memory bandwidth, measured by threads that each go through memory of their own: reading
 * (one stream a thread, or four) and copying. The figure that results are a share of.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { type Command, commands, control, type MemoryWorkerData } from "./memory-worker.ts";

/** Running threads; `dispose()` ends them. */
export class MemoryMeter {
  readonly threads: number;
  /** Bytes that all threads together read in one reading. */
  readonly readBytes: number;
  /** Bytes read plus bytes written in one copy. */
  readonly copyBytes: number;
  readonly #words: Int32Array;
  readonly #workers: readonly Worker[];

  private constructor(workers: readonly Worker[], words: Int32Array, bytes: number) {
    this.#workers = workers;
    this.#words = words;
    this.threads = workers.length;
    this.readBytes = workers.length * bytes;
    this.copyBytes = workers.length * bytes; // half is read, half is written
  }

  /**
   * Starts the threads and fills their memory.
   *
   * @param program the running program, which serves as worker when it is told to be one
   * @param bytes of each thread, a multiple of 2 KiB; of all together more than the last-level cache holds
   */
  static async start(program: string, threads: number, bytes: number): Promise<MemoryMeter> {
    const buffer = new SharedArrayBuffer(4 * control.words);
    const workerData: MemoryWorkerData = {
      role: "memory",
      control: buffer,
      bytes,
    };
    const workers = Array.from({ length: threads }, () => new Worker(program, { workerData }));
    for (const worker of workers) {
      worker.on("error", (error) => {
        // A thread that is gone would be waited for for ever.
        console.error(error);
        process.exit(1);
      });
    }
    await Promise.all(workers.map((worker) => once(worker, "message")));
    return new MemoryMeter(workers, new Int32Array(buffer), bytes);
  }

  /** One reading or copy by all threads at once; returns when the last is done. */
  run(command: Command): void {
    const words = this.#words;
    Atomics.store(words, control.done, 0);
    Atomics.store(words, control.command, commands[command]);
    Atomics.add(words, control.sequence, 1);
    Atomics.notify(words, control.sequence);
    for (;;) {
      const done = Atomics.load(words, control.done);
      if (done === this.threads) return;
      Atomics.wait(words, control.done, done);
    }
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
