/** Methods that rank by the attention of the prompt's last queries, each with its way to share the budget. */
import { adaKV } from "../../methods/ada-kv.js";
import { baklava } from "../../methods/baklava.js";
import { cake } from "../../methods/cake.js";
import { dynamicKV } from "../../methods/dynamic-kv.js";
import { lava } from "../../methods/lava.js";
import { pyramidInfer } from "../../methods/pyramid-infer.js";
import { pyramidKV } from "../../methods/pyramid-kv.js";
import { snapKV } from "../../methods/snap-kv.js";
import { zigzagKV } from "../../methods/zigzag-kv.js";
import {
  type OptionSpec,
  sinksOption,
  targetOptions,
  visibilityOption,
  windowOptions,
} from "../method-options.js";
import { define } from "../method-spec.js";

const pyramidBeta: OptionSpec = {
  name: "beta",
  type: "number",
  meaning: "the last layer keeps a beta-th of the mean budget, > 1",
};

const floorOption: OptionSpec = {
  name: "floor",
  type: "number",
  meaning: "part of the layer's mean that every head gets, [0, 1]",
};

/** Enough for a method to be made of: any model's own has its layers and heads. */
const kSomeProfile = { model: "none", importance: [[1]], tau: 1, least: 0 };

export const methodsByAttention = [
  define({
    name: "snapkv",
    kebab: "snap-kv",
    summary: "what the last queries attend to, equally many slots in every layer",
    options: [...targetOptions, ...windowOptions, sinksOption, visibilityOption],
    make: snapKV,
  }),
  define({
    name: "pyramidkv",
    kebab: "pyramid-kv",
    summary: "SnapKV's ranking with budgets that fall with depth",
    options: [...targetOptions, ...windowOptions, sinksOption, visibilityOption, pyramidBeta],
    make: pyramidKV,
  }),
  define({
    name: "pyramidinfer",
    kebab: "pyramid-infer",
    summary: "one set of slots a layer by the recent queries, budgets that fall along a cosine",
    options: [
      ...targetOptions,
      { name: "recentRatio", type: "number", meaning: "part of the prompt that ranks and stays" },
      { name: "window", type: "number", meaning: "queries that rank at most, 1..1024" },
      {
        name: "distanceWeight",
        type: "number",
        meaning: "weight of the last query relative to the first",
      },
      { name: "decay", type: "number", meaning: "what the last layer's step keeps, (0, 1]" },
      { name: "interval", type: "number", meaning: "layers between two steps" },
      sinksOption,
    ],
    make: pyramidInfer,
  }),
  define({
    name: "adakv",
    kebab: "ada-kv",
    summary: "the heads of a layer share its budget by where the best scores are",
    options: [
      ...targetOptions,
      ...windowOptions,
      sinksOption,
      floorOption,
      { name: "layers", type: ["uniform", "pyramid"], meaning: "how layers share the total" },
      { ...pyramidBeta, default: 20 },
    ],
    make: adaKV,
  }),
  define({
    name: "dynamickv",
    kebab: "dynamic-kv",
    summary: "layer budgets by where the best scores of all layers are",
    options: [
      ...targetOptions,
      ...windowOptions,
      sinksOption,
      { name: "most", type: "number", meaning: "most of a layer, times the mean budget, >= 1" },
    ],
    make: dynamicKV,
  }),
  define({
    name: "zigzagkv",
    kebab: "zigzag-kv",
    summary: "layer budgets by how many slots the heads need to hold most of their attention",
    options: [
      ...targetOptions,
      ...windowOptions,
      sinksOption,
      { name: "mass", type: "number", meaning: "part of the attention to be held, (0, 1]" },
      { name: "bound", type: "number", meaning: "least of a layer over the mean budget, [0, 1]" },
    ],
    make: zigzagKV,
  }),
  define({
    name: "cake",
    kebab: "cake",
    summary: "layer budgets by the dispersion and the shift of attention; mean and variance rank",
    options: [
      ...targetOptions,
      ...windowOptions,
      sinksOption,
      { name: "tau1", type: "number", meaning: "temperature of the entropy, > 0" },
      { name: "tau2", type: "number", meaning: "temperature of the variance, > 0" },
      {
        name: "decode",
        type: "boolean",
        meaning: "decoding goes on evicting; no effect on a dump",
      },
    ],
    make: cake,
  }),
  define({
    name: "lava",
    kebab: "lava",
    summary: "attention times the values' size ranks slots, heads and layers",
    options: [...targetOptions, ...windowOptions, sinksOption, floorOption],
    make: lava,
  }),
  define({
    name: "baklava",
    kebab: "baklava",
    summary: "SnapKV's ranking with a budget for each head from a profile of the model",
    options: [
      ...targetOptions,
      ...windowOptions,
      sinksOption,
      {
        name: "profile",
        type: "object",
        meaning: "model, importance [layers][KV heads], tau, least; must be given",
      },
    ],
    required: { profile: kSomeProfile },
    make: baklava,
  }),
];
