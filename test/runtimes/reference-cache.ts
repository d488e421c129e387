/**
 * A cache by the book for testing the runtime without the library: float32 rows, RoPE on adjacent
 * pairs, softmax attention in plain loops. Positions are 0, 1, 2 ... in order of arrival.
 */
import type {
  AttentionCache,
  AttentionLayer,
  LlamaConfig,
} from "../../lib/runtimes/gguf-llama/index.ts";

type Shape = Pick<LlamaConfig, "layers" | "queryHeads" | "kvHeads" | "headDim" | "ropeTheta">;

interface Row {
  readonly position: number;
  readonly key: Float32Array;
  readonly value: Float32Array;
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
  private readonly frequencies: readonly number[];
  private rows: Row[][]; // per KV head
  private nextPosition = 0;

  constructor(shape: Shape) {
    this.shape = shape;
    this.frequencies = Array.from(
      { length: shape.headDim / 2 },
      (_, pair) => shape.ropeTheta ** ((-2 * pair) / shape.headDim),
    );
    this.rows = Array.from({ length: shape.kvHeads }, () => []);
  }

  /** Rows held by each KV head. */
  get slots(): number {
    return this.rows[0].length;
  }

  fork(): ReferenceLayer {
    const copy = new ReferenceLayer(this.shape);
    copy.rows = this.rows.map((rows) => [...rows]);
    copy.nextPosition = this.nextPosition;
    return copy;
  }

  keepRecent(recent: number): void {
    this.rows = this.rows.map((rows) => rows.slice(Math.max(0, rows.length - recent)));
  }

  append(keys: Float32Array, values: Float32Array, tokens: number): void {
    const { headDim } = this.shape;
    this.rows.forEach((rows, head) => {
      for (let t = 0; t < tokens; t++) {
        const at = (head * tokens + t) * headDim;
        const position = this.nextPosition + t;
        const key = this.rotated(keys.slice(at, at + headDim), position);
        rows.push({ position, key, value: values.slice(at, at + headDim) });
      }
    });
    this.nextPosition += tokens;
  }

  attend(queries: Float32Array, out: Float32Array, tokens: number): void {
    const { queryHeads, kvHeads, headDim } = this.shape;
    for (let head = 0; head < queryHeads; head++) {
      const rows = this.rows[Math.floor(head / (queryHeads / kvHeads))];
      for (let t = 0; t < tokens; t++) {
        const at = (head * tokens + t) * headDim;
        const position = this.nextPosition - tokens + t;
        const query = this.rotated(queries.slice(at, at + headDim), position);
        attendOne(query, rows, position, out.subarray(at, at + headDim));
      }
    }
  }

  private rotated(x: Float32Array, position: number): Float32Array {
    this.frequencies.forEach((frequency, pair) => {
      const angle = position * frequency;
      const [a, b] = [x[2 * pair], x[2 * pair + 1]];
      x[2 * pair] = a * Math.cos(angle) - b * Math.sin(angle);
      x[2 * pair + 1] = a * Math.sin(angle) + b * Math.cos(angle);
    });
    return x;
  }
}

/** out = softmax(q . k / sqrt(d)) v over the rows at or before `position`, which come first. */
function attendOne(query: Float32Array, rows: Row[], position: number, out: Float32Array): void {
  let visible = rows.length;
  while (rows[visible - 1].position > position) visible--;
  const weights = new Float64Array(visible);
  let largest = -Infinity;
  for (let row = 0; row < visible; row++) {
    const { key } = rows[row];
    let dot = 0;
    for (let i = 0; i < key.length; i++) dot += query[i] * key[i];
    weights[row] = dot / Math.sqrt(key.length);
    largest = Math.max(largest, weights[row]);
  }
  let total = 0;
  for (let row = 0; row < visible; row++) {
    weights[row] = Math.exp(weights[row] - largest);
    total += weights[row];
  }
  const sums = new Float64Array(out.length);
  for (let row = 0; row < visible; row++) {
    const { value } = rows[row];
    const share = weights[row] / total;
    for (let i = 0; i < value.length; i++) sums[i] += share * value[i];
  }
  out.set(sums);
}
