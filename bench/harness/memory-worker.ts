/** One thread of the memory meter: waits for a command, reads or copies memory of its own, reports. */
import { parentPort, workerData } from "node:worker_threads";
import { createMemory, instantiateRead } from "./read-loop.ts";

/** What a worker is asked to do with its memory. */
export const commands = { readOne: 1, readFour: 2, copy: 3 } as const;
export type Command = keyof typeof commands;

/** Places in the shared control words. */
export const control = { sequence: 0, command: 1, done: 2, words: 3 } as const;

/** What a worker is started with. */
export interface MemoryWorkerData {
  readonly role: "memory";
  readonly control: SharedArrayBuffer;
  readonly bytes: number;
}

const kWarmUpCalls = 400;
const kWarmUpBytes = 256 * 1024;

/** Runs until the thread is terminated. */
export function serveMemory(): void {
  const { control: buffer, bytes } = workerData as MemoryWorkerData;
  const words = new Int32Array(buffer);
  const memory = createMemory(bytes);
  const all = new Uint8Array(memory.buffer, 0, bytes);
  all.fill(1); // pages that were never written would all be one page of zeros
  const firstHalf = all.subarray(0, bytes / 2);
  const read = instantiateRead(memory);
  // The optimising compiler takes over between calls, never inside a long one.
  for (let i = 0; i < kWarmUpCalls; i++) read(0, kWarmUpBytes, i % 2 === 0 ? 1 : 4);

  let seen = Atomics.load(words, control.sequence);
  parentPort?.postMessage("ready");
  for (;;) {
    Atomics.wait(words, control.sequence, seen);
    seen = Atomics.load(words, control.sequence);
    const command = Atomics.load(words, control.command);
    if (command === commands.readOne) expectSum(read(0, bytes, 1), bytes);
    else if (command === commands.readFour) expectSum(read(0, bytes, 4), bytes);
    else all.set(firstHalf, bytes / 2);
    Atomics.add(words, control.done, 1);
    Atomics.notify(words, control.done);
  }
}

/** Every byte is 1, so the words add up to 0x01010101 times their number. */
function expectSum(sum: number, bytes: number): void {
  const expected = Math.imul(0x01010101, bytes / 4);
  if (sum !== expected) throw new Error(`memory: expected ${expected} for sum, got ${sum}`);
}
