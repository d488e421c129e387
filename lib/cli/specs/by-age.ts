/** Methods whose slots are chosen by age alone. */
import { dBudgetKV } from "../../methods/d-budget-kv.js";
import { full } from "../../methods/full.js";
import { slidingWindow } from "../../methods/sliding-window.js";
import { squeezeAttention } from "../../methods/squeeze-attention.js";
import { streamingLLM } from "../../methods/streaming-llm.js";
import { sinksOption, skipLayersOption, targetOptions } from "../method-options.js";
import { define } from "../method-spec.js";

export const methodsByAge = [
  define({
    name: "full",
    kebab: "full",
    summary: "everything stays",
    options: [],
    make: () => full(),
  }),
  define({
    name: "slidingwindow",
    kebab: "sliding-window",
    summary: "the last slots",
    options: targetOptions,
    make: slidingWindow,
  }),
  define({
    name: "streamingllm",
    kebab: "streaming-llm",
    summary: "attention sinks and the last slots",
    options: [
      ...targetOptions,
      sinksOption,
      {
        name: "positions",
        type: ["original", "reindexed"],
        meaning: "RoPE by logical position, or by slot index in the cache",
      },
    ],
    make: streamingLLM,
  }),
  define({
    name: "squeezeattention",
    kebab: "squeeze-attention",
    summary:
      "layer budgets by how much attention changes the residual stream (needs hidden states)",
    options: [
      ...targetOptions,
      {
        name: "policy",
        type: ["sliding-window", "streaming-llm", "h2o"],
        meaning: "how a layer chooses its slots",
        default: "streaming-llm",
      },
      {
        name: "p",
        type: "number",
        meaning: "budget of the least important layers over the mean, (0, 1]",
      },
      sinksOption,
    ],
    make: squeezeAttention,
  }),
  define({
    name: "dbudgetkv",
    kebab: "d-budget-kv",
    summary: "sinks and the last slots that hold a head's attention: no target",
    options: [
      { name: "loss", type: "number", meaning: "part of the attention's norm that may go, [0, 1)" },
      { name: "least", type: "number", meaning: "slots behind the sinks that stay at least" },
      sinksOption,
      skipLayersOption,
    ],
    make: dBudgetKV,
  }),
];
