/** Methods that store references into codebooks. */
import { spindleKV } from "../../methods/spindle-kv.js";
import {
  codebookOptions,
  type OptionSpec,
  sinksOption,
  targetOptions,
  visibilityOption,
  windowOptions,
} from "../method-options.js";
import { define } from "../method-spec.js";

const spindleOptions: readonly OptionSpec[] = [
  ...targetOptions,
  ...windowOptions,
  sinksOption,
  visibilityOption,
  {
    name: "beta",
    type: "number",
    meaning: "fraction of the context that the last layer keeps at least",
  },
  ...codebookOptions,
];

export const methodsByCodebook = [
  define({
    name: "spindlekv",
    kebab: "spindle-kv",
    summary: "eviction with falling budgets, then codebooks of keys and values",
    options: spindleOptions,
    make: spindleKV,
  }),
  define({
    name: "spindlekv-paper",
    kebab: "spindle-kv-paper",
    summary: "SpindleKV as its paper has it: no pooling, a ranking and a view per query head",
    options: spindleOptions,
    make: spindleKV.paper,
  }),
];
