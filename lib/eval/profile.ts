/**
 * An offline profile of a model for `baklava`: how much the attention of each KV head changes what it is given.
 *
 *   imp[l, g] = mean over the query heads h of KV head g and over tokens t of 1 - cos(v[l, g, t], o[l, h, t])
 *
 * v is the token's own value row, o what attention makes of all of them: a head that looks at nothing but the token
 * itself has 0, and can do with few slots.
 *
 * @source the shape is BaKlaVa's (arXiv 2502.13176: cosine of a head's input and output, aggregated inside a group); its
 * formula was not available, this one is the project's.
 */
import type { BudgetProfile } from "../budget/profiled.js";
import { HiddenCosine } from "../cache/hidden-cosine.js";
import type { AttentionCache, AttentionLayer } from "../runtimes/gguf-llama/cache-port.js";
import type { TrialModel } from "./choices.js";

/** Options of {@link profileHeads}. */
export interface ProfileHeadsOptions {
  /** Name of the model, for reports. */
  readonly name: string;
  readonly model: Pick<TrialModel, "forward"> & {
    readonly config: Pick<TrialModel["config"], "layers" | "kvHeads" | "headDim"> & {
      readonly queryHeads: number;
    };
  };
  /** Prompts in tokens, one or more; all tokens count alike. */
  readonly prompts: readonly Int32Array[];
  /** An empty, uncompressed cache for one prompt. */
  readonly openCache: () => AttentionCache & Partial<Disposable>;
  /** Exponent of the importance, > 0. Default 1. */
  readonly tau?: number;
  /** Part of the mean budget that every head gets, in [0, 1]. Default 0.2. */
  readonly least?: number;
}

/**
 * Runs the prompts through the model and measures every head.
 *
 * @returns plain data: `JSON.stringify` it, and give it to `baklava`
 * @throws Error when there is no token to measure
 */
export async function profileHeads(options: ProfileHeadsOptions): Promise<BudgetProfile> {
  const { name, model, prompts, openCache, tau = 1, least = 0.2 } = options;
  const { layers, kvHeads } = model.config;
  const cosines = Array.from({ length: layers }, () =>
    Array.from({ length: kvHeads }, () => new HiddenCosine()),
  );
  for (const prompt of prompts) {
    const cache = openCache();
    try {
      const measured = cache.layers.map((layer, index) =>
        measuring(layer, model.config, cosines[index] ?? []),
      );
      await model.forward(prompt, { layers: measured }, { logits: "last" });
    } finally {
      cache[Symbol.dispose]?.();
    }
  }
  const importance = cosines.map((heads) =>
    heads.map(({ mean }) => {
      if (mean !== undefined) return 1 - mean;
      throw new Error("profileHeads: expected at least one token in prompts, got 0");
    }),
  );
  return { model: name, importance, tau, least };
}

/** A layer that shows each KV head's values and outputs to that head's mean as tokens go through it. */
function measuring(
  layer: AttentionLayer,
  { kvHeads, queryHeads, headDim }: ProfileHeadsOptions["model"]["config"],
  cosines: readonly HiddenCosine[],
): AttentionLayer {
  let values = new Float32Array(0);
  return {
    append: (k, v, tokens) => {
      // The runtime uses its buffer again.
      values = v.slice(0, kvHeads * tokens * headDim);
      layer.append(k, v, tokens);
    },
    attend: async (q, out, tokens) => {
      await layer.attend(q, out, tokens);
      const size = tokens * headDim;
      const group = queryHeads / kvHeads;
      for (let head = 0; head < queryHeads; head++) {
        const kvHead = Math.floor(head / group);
        const rows = values.subarray(kvHead * size, (kvHead + 1) * size);
        cosines[kvHead]?.add(rows, out.subarray(head * size, (head + 1) * size), tokens);
      }
    },
  };
}
