/** One method of the command: what it is called, what it takes, and how it is made. */
import type { Method } from "../cache/method.js";
import type { OptionSpec } from "./method-options.js";

export interface MethodSpec {
  readonly name: string;
  /** The same in kebab case, accepted as well. */
  readonly kebab: string;
  /** One line. */
  readonly summary: string;
  readonly options: readonly OptionSpec[];
  /** Whether keep, bytes or tokens say how much stays. */
  readonly hasTarget: boolean;
  /** Options that cannot be left out, with values that make some method. */
  readonly required: Readonly<Record<string, unknown>>;
  /** The method of checked options. */
  readonly make: (options: Record<string, unknown>) => Method;
}

/** What a spec is written as. */
interface Entry<Options> {
  readonly name: string;
  readonly kebab: string;
  readonly summary: string;
  readonly options: readonly OptionSpec[];
  readonly required?: Readonly<Record<string, unknown>>;
  readonly make: (options: Options) => Method;
}

/** Any target: the parts do not depend on it. */
const kSomeTarget = { keep: 0.5 };

/** Defaults as the method itself has them, read from its parts so that none is written down twice. */
function defaultsOf(method: Method): Record<string, unknown> {
  const { score, stepScore, budget, select, codec, positions, schedule, minTokens } = method;
  const recent = select?.recent;
  return {
    positions,
    schedule,
    minTokens,
    decode: stepScore !== null,
    ...score?.options,
    recentRatio: score?.options.windowFraction,
    ...budget?.options,
    ...(codec.id === "codebook" ? codec : {}),
    sinks: select?.sinks,
    ...(typeof recent === "number" ? { recent } : {}),
    ...(typeof recent === "object" ? { recentShare: recent.share } : {}),
    visibility: select?.visibility,
  };
}

/** A spec with the defaults filled in. */
export function define<Options>(entry: Entry<Options>): MethodSpec {
  const { name, kebab, summary, required = {} } = entry;
  const hasTarget = entry.options.some((option) => option.name === "keep");
  // The options were checked by name and type, and the method checks their ranges: that is what the cast says.
  const make = (options: Record<string, unknown>) => entry.make(options as Options);
  const defaults = defaultsOf(make({ ...(hasTarget ? kSomeTarget : {}), ...required }));
  const options = entry.options.map((option) =>
    option.default === undefined && option.name in defaults
      ? { ...option, default: defaults[option.name] }
      : option,
  );
  return { name, kebab, summary, options, hasTarget, required, make };
}
