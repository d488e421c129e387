import type {
  BudgetPart,
  BudgetTarget,
  CodecPart,
  Method,
  Schedule,
  ScorePart,
  SelectPart,
} from "../cache/method.js";
import { raw } from "../codec/raw.js";
import { argumentError } from "../errors.js";

/** The parts of a method; everything but `id` has a neutral default. */
export interface ComposeOptions {
  /** Stable kebab-case name, shown in reports. */
  readonly id: string;
  /** How much stays. Default: everything. */
  readonly target?: BudgetTarget | null;
  /** How good each slot is. Default: none, so nothing is ranked. */
  readonly score?: ScorePart | null;
  /** How many slots each layer gets. */
  readonly budget?: BudgetPart | null;
  /** What is protected and who sees what. */
  readonly select?: SelectPart | null;
  /** How kept slots are stored. Default: raw rows. */
  readonly codec?: CodecPart;
  /** Default "after-prefill". */
  readonly schedule?: Schedule;
  /** Default "original". */
  readonly positions?: "original" | "reindexed";
}

function checkTarget(target: BudgetTarget): void {
  const given = (["keep", "bytes", "tokens"] as const).filter((name) => name in target);
  if (given.length !== 1) {
    throw argumentError("compose", "exactly one of keep, bytes and tokens", "target", given);
  }
  if ("keep" in target) {
    if (!(target.keep > 0 && target.keep <= 1)) {
      throw argumentError("compose", "a fraction in (0, 1]", "keep", target.keep);
    }
  } else if ("bytes" in target) {
    if (!Number.isSafeInteger(target.bytes) || target.bytes <= 0) {
      throw argumentError("compose", "a positive integer", "bytes", target.bytes);
    }
  } else if (!Number.isSafeInteger(target.tokens) || target.tokens <= 0) {
    throw argumentError("compose", "a positive integer", "tokens", target.tokens);
  }
}

function oneOf(name: string, value: string, names: readonly string[]): void {
  if (names.includes(value)) return;
  const expected = names.map((each) => `"${each}"`).join(" or ");
  throw argumentError("compose", expected, name, value);
}

/** Every append keeps the same window of raw slots in every layer. */
function checkEveryStep(
  score: ScorePart | null,
  budget: BudgetPart | null,
  select: SelectPart | null,
  codec: CodecPart,
): void {
  const op = "compose";
  const when = 'for schedule "every-step"';
  if (score?.source !== "position")
    throw argumentError(op, `position() ${when}`, "score", score?.id);
  if (budget?.id !== "uniform") throw argumentError(op, `uniform() ${when}`, "budget", budget?.id);
  if (select?.recent !== "budget") {
    throw argumentError(op, `sinksAndRecent() ${when}`, "select", select?.id);
  }
  if (codec.id !== "raw") throw argumentError(op, `raw() ${when}`, "codec", codec.id);
}

/**
 * Makes a method of independent parts.
 *
 * @param options parts; see {@link ComposeOptions}
 * @returns plain frozen data that any number of caches may use
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT when a part is missing that another one asks for
 * @example
 * ```ts
 * import { compose, observationWindow, pyramid, topK } from "spindlekv";
 *
 * const method = compose({
 *   id: "snap-pyramid",
 *   target: { keep: 0.2 },
 *   score: observationWindow({ window: 32 }),
 *   budget: pyramid({ beta: 20 }),
 *   select: topK({}),
 * });
 * ```
 */
export function compose(options: ComposeOptions): Method {
  if (typeof options !== "object" || options === null) {
    throw argumentError("compose", "an object", "options", options);
  }
  if (typeof options.id !== "string" || !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(options.id)) {
    throw argumentError("compose", "a kebab-case name", "id", options.id);
  }
  const target = options.target ?? null;
  const score = options.score ?? null;
  const budget = options.budget ?? null;
  const select = options.select ?? null;
  const codec = options.codec ?? raw();
  const schedule = options.schedule ?? "after-prefill";
  const positions = options.positions ?? "original";
  if (target !== null) checkTarget(target);
  if (target !== null && (score === null || budget === null || select === null)) {
    throw argumentError("compose", "score, budget and select with a target", "parts", {
      score: score?.id,
      budget: budget?.id,
      select: select?.id,
    });
  }
  for (const [name, part] of Object.entries({ score, budget, select, codec })) {
    if (part === null) continue;
    if (typeof part !== "object" || typeof part.id !== "string") {
      throw argumentError("compose", `a ${name} part`, name, part);
    }
  }
  oneOf("schedule", schedule, ["after-prefill", "every-step"]);
  oneOf("positions", positions, ["original", "reindexed"]);
  if (select?.recent === "window" && score?.source !== "attention") {
    throw argumentError("compose", 'an attention score for recent: "window"', "score", score?.id);
  }
  if (schedule === "every-step") checkEveryStep(score, budget, select, codec);
  return Object.freeze({
    id: options.id,
    target: target === null ? null : Object.freeze({ ...target }),
    score,
    budget,
    select,
    codec,
    schedule,
    positions,
  });
}
