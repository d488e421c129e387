/**
 * A cache by the book for testing the runtime without the library: float32 rows, RoPE and softmax attention
 * in plain loops. Positions are 0, 1, 2 ... in order of arrival; skipped ones have no rows.
 */
import type {
  AttentionCache,
  AttentionLayer,
  LlamaConfig,
} from "../../lib/runtimes/gguf-llama/index.ts";
import { ReferenceRope } from "./reference-rope.ts";

type Shape = Pick<LlamaConfig, "layers" | "queryHeads" | "kvHeads" | "headDim" | "rope">;

/** The rows of one KV head, one behind the other. */
interface Rows {
  readonly positions: readonly number[];
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

export class ReferenceCache implements AttentionCache {
  readonly layers: readonly ReferenceLayer[];
  private readonly shape: Shape;

  constructor(shape: Shape, layers?: readonly ReferenceLayer[]) {
    this.shape = shape;
    this.layers = layers ?? Array.from({ length: shape.layers }, () => new ReferenceLayer(shape));
  }

  /** An independent continuation; the rows so far are shared, they never change. */
  fork(): ReferenceCache {
    return new ReferenceCache(
      this.shape,
      this.layers.map((layer) => layer.fork()),
    );
  }

  /** Keeps the `recent` newest rows of every layer and head: an eviction one can foresee. */
  keepRecent(recent: number): void {
    for (const layer of this.layers) layer.keepRecent(recent);
  }
}

export class ReferenceLayer implements AttentionLayer {
  private readonly shape: Shape;
  private readonly rope: ReferenceRope;
  private heads: readonly Rows[];
  private nextPosition = 0;

  constructor(shape: Shape) {
    this.shape = shape;
    this.rope = new ReferenceRope(shape.rope, shape.headDim);
    const none = { positions: [], keys: new Float32Array(), values: new Float32Array() };
    this.heads = Array.from({ length: shape.kvHeads }, () => none);
  }

  /** Rows held by each KV head. */
  get slots(): number {
    return this.heads[0].positions.length;
  }

  fork(): ReferenceLayer {
    const copy = new ReferenceLayer(this.shape);
    copy.heads = this.heads;
    copy.nextPosition = this.nextPosition;
    return copy;
  }

  keepRecent(recent: number): void {
    const dropped = Math.max(0, this.slots - recent);
    this.heads = this.heads.map(({ positions, keys, values }) => ({
      positions: positions.slice(dropped),
      keys: keys.slice(dropped * this.shape.headDim),
      values: values.slice(dropped * this.shape.headDim),
    }));
  }

  /** Passes over positions without rows. */
  skip(tokens: number): void {
    this.nextPosition += tokens;
  }

  append(keys: Float32Array, values: Float32Array, tokens: number): void {
    const size = tokens * this.shape.headDim;
    const positions = Array.from({ length: tokens }, (_, t) => this.nextPosition + t);
    this.heads = this.heads.map((rows, head) => ({
      positions: [...rows.positions, ...positions],
      keys: join(rows.keys, this.rotated(keys.slice(head * size, (head + 1) * size))),
      values: join(rows.values, values.subarray(head * size, (head + 1) * size)),
    }));
    this.nextPosition += tokens;
  }

  attend(queries: Float32Array, out: Float32Array, tokens: number): void {
    const { queryHeads, kvHeads, headDim } = this.shape;
    this.nextPosition -= tokens; // the queries stand where the keys appended last stand
    for (let head = 0; head < queryHeads; head++) {
      const rows = this.heads[Math.floor(head / (queryHeads / kvHeads))];
      const from = head * tokens * headDim;
      const rotated = this.rotated(queries.slice(from, from + tokens * headDim));
      for (let t = 0; t < tokens; t++) {
        const query = rotated.subarray(t * headDim, (t + 1) * headDim);
        const at = from + t * headDim;
        attendOne(query, rows, this.nextPosition + t, out.subarray(at, at + headDim));
      }
    }
    this.nextPosition += tokens;
  }

  /** Rotates the rows of `x` in place, the first one by the next position's angles. */
  private rotated(x: Float32Array): Float32Array {
    const { headDim } = this.shape;
    for (let row = 0; row * headDim < x.length; row++) {
      this.rope.rotate(x.subarray(row * headDim, (row + 1) * headDim), this.nextPosition + row);
    }
    return x;
  }
}

function join(front: Float32Array, back: Float32Array): Float32Array {
  const both = new Float32Array(front.length + back.length);
  both.set(front);
  both.set(back, front.length);
  return both;
}

/** out = softmax(q . k / sqrt(d)) v over the rows at or before `position`, which come first. */
function attendOne(query: Float32Array, rows: Rows, position: number, out: Float32Array): void {
  const { positions, keys, values } = rows;
  const headDim = query.length;
  let visible = positions.length;
  while (positions[visible - 1] > position) visible--;
  const weights = new Float64Array(visible);
  let largest = -Infinity;
  for (let row = 0; row < visible; row++) {
    let dot = 0;
    for (let i = 0; i < headDim; i++) dot += query[i] * keys[row * headDim + i];
    weights[row] = dot / Math.sqrt(headDim);
    largest = Math.max(largest, weights[row]);
  }
  let total = 0;
  for (let row = 0; row < visible; row++) {
    weights[row] = Math.exp(weights[row] - largest);
    total += weights[row];
  }
  const sums = new Float64Array(headDim);
  for (let row = 0; row < visible; row++) {
    const share = weights[row] / total;
    for (let i = 0; i < headDim; i++) sums[i] += share * values[row * headDim + i];
  }
  out.set(sums);
}
