import type {
  BudgetPart,
  BudgetTarget,
  CodecPart,
  Method,
  Schedule,
  ScorePart,
  SelectPart,
} from "../cache/method.js";
import { isMaintained, isWindowed } from "../cache/method.js";
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
  /** Ranks at later compressions while decoding. Default: `score`. */
  readonly stepScore?: ScorePart | null;
  /** How many slots each layer gets. */
  readonly budget?: BudgetPart | null;
  /** What is protected and who sees what. */
  readonly select?: SelectPart | null;
  /** How kept slots are stored. Default: raw rows. */
  readonly codec?: CodecPart;
  /** Default "after-prefill". */
  readonly schedule?: Schedule;
  /** Caches of fewer tokens are left as they are. Default 0. */
  readonly minTokens?: number;
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

function checkSchedule(schedule: Schedule): void {
  if (typeof schedule === "string") {
    oneOf("schedule", schedule, ["after-prefill", "per-layer", "every-step"]);
    return;
  }
  const entries = Object.entries(schedule ?? {});
  const [name, slots] = entries[0] ?? [];
  if (entries.length !== 1 || (name !== "every" && name !== "overflow")) {
    throw argumentError("compose", "every or overflow", "schedule", schedule);
  }
  const least = name === "every" ? 1 : 0;
  if (!Number.isInteger(slots) || (slots as number) < least) {
    throw argumentError("compose", `an integer of ${least} or more`, `schedule.${name}`, slots);
  }
}

/** What goes on compressing while the model decodes works on raw slots, one ranking per KV head. */
function checkMaintained({ id, score, budget, select, codec, schedule, target }: Method): void {
  const op = "compose";
  const when = `for schedule ${JSON.stringify(schedule)}`;
  if (score === null) throw argumentError(op, `a score ${when}`, "score", id);
  if (budget === null) throw argumentError(op, `a budget ${when}`, "budget", id);
  if (select === null) throw argumentError(op, `a select part ${when}`, "select", id);
  if (codec.id !== "raw") throw argumentError(op, `raw() ${when}`, "codec", codec.id);
  if (score.options.group === "unfold") {
    throw argumentError(op, `one ranking per KV head ${when}`, "group", "unfold");
  }
  const isOverflow = typeof schedule === "object" && "overflow" in schedule;
  if (isOverflow && (target === null || "keep" in target)) {
    throw argumentError(op, `tokens or bytes ${when}`, "target", target);
  }
}

/** Layers that come later only take from those before. */
function checkCascade({ budget, codec, score, target }: Method): void {
  const op = "compose";
  const when = 'for schedule "per-layer"';
  if (target === null) throw argumentError(op, `a target ${when}`, "target", target);
  if (budget?.kind === "evidence" && !budget.cascades) {
    throw argumentError(op, `a budget that cascades ${when}`, "budget", budget.id);
  }
  if (codec.id !== "raw") throw argumentError(op, `raw() ${when}`, "codec", codec.id);
  if (score?.options.group === "unfold") {
    throw argumentError(op, `one ranking per KV head ${when}`, "group", "unfold");
  }
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
  const stepScore = options.stepScore ?? null;
  const minTokens = options.minTokens ?? 0;
  const isOwnSize = budget?.kind === "evidence" && budget.size === "own";
  if (target !== null) checkTarget(target);
  if (target !== null && isOwnSize) {
    throw argumentError("compose", `no target with budget ${budget.id}`, "target", target);
  }
  const isSized = target !== null || isOwnSize;
  if (isSized && (score === null || budget === null || select === null)) {
    throw argumentError("compose", "score, budget and select with a target", "parts", {
      score: score?.id,
      budget: budget?.id,
      select: select?.id,
    });
  }
  if (!isSized && budget !== null) {
    throw argumentError("compose", `a target for budget ${budget.id}`, "target", target);
  }
  for (const [name, part] of Object.entries({ score, stepScore, budget, select, codec })) {
    if (part === null) continue;
    if (typeof part !== "object" || typeof part.id !== "string") {
      throw argumentError("compose", `a ${name} part`, name, part);
    }
  }
  checkSchedule(schedule);
  oneOf("positions", positions, ["original", "reindexed"]);
  if (!Number.isSafeInteger(minTokens) || minTokens < 0) {
    throw argumentError("compose", "an integer of 0 or more", "minTokens", minTokens);
  }
  if (select?.recent === "window" && (score === null || score.window === 0)) {
    throw argumentError(
      "compose",
      'a score with a window for recent: "window"',
      "score",
      score?.id,
    );
  }
  const method: Method = {
    id: options.id,
    target: target === null ? null : Object.freeze({ ...target }),
    score,
    stepScore,
    budget,
    select,
    codec,
    schedule: typeof schedule === "string" ? schedule : Object.freeze({ ...schedule }),
    minTokens,
    positions,
  };
  if (schedule === "per-layer") checkCascade(method);
  if (isMaintained(method) || isWindowed(method)) checkMaintained(method);
  return Object.freeze(method);
}
