/** Methods that rank by keys and values, or by the queries that they expect. */
import { expectedAttention } from "../../methods/expected-attention.js";
import { keyDiff } from "../../methods/key-diff.js";
import { l2norm } from "../../methods/l2norm.js";
import { lagKV } from "../../methods/lag-kv.js";
import {
  recentOption,
  scheduleOption,
  sinksOption,
  skipLayersOption,
  targetOptions,
} from "../method-options.js";
import { define } from "../method-spec.js";

export const methodsByKeys = [
  define({
    name: "l2norm",
    kebab: "l2norm",
    summary: "the shortest keys; the first layers stay whole",
    options: [
      ...targetOptions,
      skipLayersOption,
      sinksOption,
      recentOption,
      { name: "minTokens", type: "number", meaning: "shorter prompts are left as they are" },
      scheduleOption,
    ],
    make: l2norm,
  }),
  define({
    name: "keydiff",
    kebab: "key-diff",
    summary: "the keys that are least like the mean key of their head",
    options: [...targetOptions, sinksOption, recentOption, scheduleOption],
    make: keyDiff,
  }),
  define({
    name: "lagkv",
    kebab: "lag-kv",
    summary: "of every block those that stray most from the block that follows",
    options: [
      ...targetOptions,
      { name: "lag", type: "number", meaning: "slots of a block" },
      {
        name: "crossScoring",
        type: "boolean",
        meaning: "blocks compete by score, instead of equally many of each",
      },
      sinksOption,
      scheduleOption,
    ],
    make: lagKV,
  }),
  define({
    name: "expectedattention",
    kebab: "expected-attention",
    summary: "what queries to come are expected to attend to (needs keys before RoPE)",
    options: [
      ...targetOptions,
      { name: "window", type: "number", meaning: "last queries that are read, 1..65536" },
      {
        name: "futurePositions",
        type: "number",
        meaning: "positions to come, for their mean RoPE",
      },
      { name: "covariance", type: "boolean", meaning: "beside the mean of the queries" },
      { name: "valueNorm", type: ["none", "l2"], meaning: "times the L2 norm of the slot's value" },
      { name: "epsilon", type: "number", meaning: "added before the norm, >= 0" },
      {
        name: "heads",
        type: ["uniform", "adaptive"],
        meaning: "equally many slots a head, or by where the best scores are",
        default: "uniform",
      },
      {
        name: "floor",
        type: "number",
        meaning: "with heads adaptive: part of the mean that every head gets, [0, 1]",
        default: 0.2,
      },
      sinksOption,
      recentOption,
    ],
    make: expectedAttention,
  }),
];
