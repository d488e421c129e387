/** Methods that rank by attention and go on while the model decodes. */
import { h2o } from "../../methods/h2o.js";
import { prefixKV } from "../../methods/prefix-kv.js";
import { tova } from "../../methods/tova.js";
import {
  recentOption,
  scheduleOption,
  scopeOption,
  sinksOption,
  targetOptions,
} from "../method-options.js";
import { define } from "../method-spec.js";

export const methodsByHistory = [
  define({
    name: "h2o",
    kebab: "h2o",
    summary: "heavy hitters: the slots that got the most attention so far, and the last ones",
    options: [
      ...targetOptions,
      {
        name: "recentShare",
        type: "number",
        meaning: "part of the budget that goes to the last slots, [0, 1]",
      },
      {
        name: "normalize",
        type: ["none", "causalCount"],
        meaning: "sum, or divided by the queries that saw the slot",
      },
      { name: "group", type: ["sum", "max"], meaning: "how the query heads share a ranking" },
      scopeOption,
      sinksOption,
      scheduleOption,
    ],
    make: h2o,
  }),
  define({
    name: "tova",
    kebab: "tova",
    summary: "a cache of fixed size that drops what the newest token attends to least",
    options: [...targetOptions, scopeOption, sinksOption, recentOption, scheduleOption],
    make: tova,
  }),
  define({
    name: "prefixkv",
    kebab: "prefix-kv",
    summary: "every layer keeps the slots that hold the same part of its attention",
    options: [...targetOptions, scopeOption, sinksOption, recentOption],
    make: prefixKV,
  }),
];
