/** Writes safetensors files: all or nothing, by a file beside the target that takes its name at the end. */
import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** A tensor to write; the length of `data` is the product of `shape`. */
export type OutputTensor = { readonly name: string; readonly shape: readonly number[] } & (
  | { readonly dtype: "F32"; readonly data: Float32Array }
  | { readonly dtype: "F16" | "BF16"; readonly data: Uint16Array }
  | { readonly dtype: "I32"; readonly data: Int32Array }
  | { readonly dtype: "I64"; readonly data: BigInt64Array }
);

/** Offset of the data in the file: a multiple of the largest element, so that mapped tensors are aligned. */
const kAlignment = 8;
const kMaxWriteBytes = 2 ** 30;

function headerOf(
  tensors: readonly OutputTensor[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const entries: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const { name, dtype, shape, data } of tensors) {
    const end = offset + data.byteLength;
    entries[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(entries));
  const length = Math.ceil(json.length / kAlignment) * kAlignment;
  const header = new Uint8Array(8 + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, 8);
  return header;
}

/**
 * Writes a file.
 *
 * @param path replaced when it is there, untouched when the call fails
 * @param tensors names must differ
 * @param metadata strings beside the tensors
 * @throws the file system's error when it cannot be written
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly OutputTensor[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  // Large elements first: then every tensor starts at a multiple of its element.
  const inOrder = tensors.toSorted((a, b) => b.data.BYTES_PER_ELEMENT - a.data.BYTES_PER_ELEMENT);
  const suffix = randomBytes(6).toString("hex");
  const partial = join(dirname(path), `.${basename(path)}.${suffix}.partial`);
  const handle = await open(partial, "wx");
  try {
    try {
      const parts = inOrder.map(
        ({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
      );
      for (const part of [headerOf(inOrder, metadata), ...parts]) {
        let done = 0;
        while (done < part.length) {
          const piece = part.subarray(done, done + kMaxWriteBytes);
          done += (await handle.write(piece)).bytesWritten;
        }
      }
    } finally {
      await handle.close();
    }
    await rename(partial, path);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
}
