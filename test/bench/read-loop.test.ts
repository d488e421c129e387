import { describe, expect, it } from "vitest";
import { createMemory, instantiateRead } from "../../bench/harness/read-loop.ts";
import { Prng } from "../harness/prng.ts";

const kBytes = 64 * 1024;

function filledMemory() {
  const memory = createMemory(kBytes);
  const words = new Int32Array(memory.buffer);
  const random = new Prng(1);
  for (let i = 0; i < words.length; i++) words[i] = random.next();
  return { words, read: instantiateRead(memory) };
}

const sumOf = (words: Int32Array) => words.reduce((sum, word) => (sum + word) | 0, 0);

describe("the read loop", () => {
  it.each([1, 4] as const)("reads every word once, in %i streams", (streams) => {
    const { words, read } = filledMemory();
    for (const [start, bytes] of [
      [0, kBytes],
      [0, 256],
      [1024, 4096],
      [512, 0],
    ]) {
      const expected = sumOf(words.subarray(start / 4, (start + bytes) / 4));
      expect(read(start, bytes, streams), `${bytes} bytes from ${start}`).toBe(expected);
    }
  });

  it.each([1, 4] as const)("notices a change of any one word, in %i streams", (streams) => {
    const { words, read } = filledMemory();
    const before = read(0, 512, streams);
    for (let i = 0; i < 128; i++) {
      words[i] += 1;
      expect(read(0, 512, streams)).toBe((before + i + 1) | 0);
    }
  });
});
