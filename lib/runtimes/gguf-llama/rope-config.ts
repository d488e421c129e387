/**
 * How a model turns queries and keys, as its GGUF metadata states it, in the form that `KVCache` takes as `rope`.
 *
 * `<architecture>.rope.scaling.*` is read as llama.cpp reads it, with two differences: the turns of YaRN
 * (`yarn_beta_fast`, `yarn_beta_slow`) count where llama.cpp leaves them at 32 and 1, and what this file does not
 * know is refused instead of ignored.
 */
import type { RopeScaling } from "../../rope.js";
import { architectures } from "./architectures.js";
import type { GgufFile } from "./gguf.js";
import { fileError } from "./failures.js";
import { positiveNumber } from "./metadata.js";

/** RoPE over all dims of a head: pair i at position p turns by p * theta^(-2i / headDim), changed by the scaling. */
export interface RopeConfig {
  readonly theta: number;
  /** "norm": neighbours (2i, 2i + 1); "neox": halves (i, i + headDim / 2). */
  readonly style: "norm" | "neox";
  readonly scaling: RopeScaling;
}

const kFactors = "rope_freqs.weight";
const knownKeys = [
  "type",
  "factor",
  "original_context_length",
  "attn_factor",
  "finetuned",
  "yarn_beta_fast",
  "yarn_beta_slow",
];

/** Reads and checks the rotation. @throws Error naming the key or tensor that does not fit */
export function ropeFromGguf(file: GgufFile, architecture: string, headDim: number): RopeConfig {
  const { ropeStyle, hasRopeFactors } = architectures[architecture];
  const prefix = `${architecture}.rope.`;
  const theta = positiveNumber(file, `${prefix}freq_base`, 10_000);
  const scaling = scalingFromGguf(file, `${prefix}scaling.`, architecture);
  if (!hasRopeFactors || !file.tensors.has(kFactors)) return { theta, style: ropeStyle, scaling };
  if (scaling.kind !== "none" && scaling.kind !== "linear") {
    throw fileError(
      `gguf-llama: expected no scaling or a linear one beside ${kFactors}, got "${scaling.kind}"`,
    );
  }
  const { shape } = file.tensors.get(kFactors)!;
  if (shape.length !== 1 || shape[0] !== headDim / 2) {
    throw fileError(
      `gguf-llama: expected ${headDim / 2} elements for ${kFactors}, got ${shape.join(" x ")}`,
    );
  }
  const all = scaling.kind === "linear" ? scaling.factor : 1;
  const factors = Array.from(file.readTensor(kFactors), (factor) => factor * all);
  return { theta, style: ropeStyle, scaling: { kind: "factors", factors } };
}

function scalingFromGguf(file: GgufFile, prefix: string, architecture: string): RopeScaling {
  for (const key of file.metadata.keys()) {
    if (key.startsWith(prefix) && !knownKeys.includes(key.slice(prefix.length))) {
      throw fileError(`gguf-llama: expected no ${key}, which this runtime does not know, got one`);
    }
  }
  // "linear" where only a factor is given; the second key is that of old files.
  const factor = positiveNumber(
    file,
    `${prefix}factor`,
    positiveNumber(file, `${architecture}.rope.scale_linear`, 1),
  );
  const kind = file.metadata.get(`${prefix}type`) ?? "linear";
  const lengthened = positiveNumber(file, `${prefix}attn_factor`, 1);
  if (factor < 1)
    throw fileError(`gguf-llama: expected 1 or more for ${prefix}factor, got ${factor}`);
  if (kind === "yarn") {
    return {
      kind,
      factor,
      originalPositions: positiveNumber(
        file,
        `${prefix}original_context_length`,
        positiveNumber(file, `${architecture}.context_length`),
      ),
      betaFast: positiveNumber(file, `${prefix}yarn_beta_fast`, 32),
      betaSlow: positiveNumber(file, `${prefix}yarn_beta_slow`, 1),
      attentionFactor: lengthened * (0.1 * Math.log(factor) + 1),
    };
  }
  if (lengthened !== 1) {
    throw fileError(
      `gguf-llama: expected 1 for ${prefix}attn_factor without YaRN, got ${lengthened}`,
    );
  }
  if (kind === "none" || (kind === "linear" && factor === 1)) return { kind: "none" };
  if (kind === "linear") return { kind, factor };
  throw fileError(
    `gguf-llama: expected "none", "linear" or "yarn" for ${prefix}type, got "${kind}"`,
  );
}
