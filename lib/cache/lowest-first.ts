import { Tensor } from "../tensor.js";
import type { KeyStatistic, ScorePart } from "./method.js";

/** Ranks the slots of each head by a statistic of their rows, the lowest first. */
export function lowestFirst(name: KeyStatistic): ScorePart["rank"] {
  return async ({ device, kvHeads, lengths, longest, keyStats }) => {
    const { [name]: values } = await keyStats([name]);
    const scores = values.map((value) => -value);
    return { scores: Tensor.from(device, "f32", [kvHeads, longest], scores), lengths, group: 1 };
  };
}
