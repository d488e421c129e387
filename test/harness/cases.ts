// Cases as data. A matrix is a record of axes; a case is one value of each, printable as its id and
// replayable from it: SPINDLEKV_CASE="<id>" runs that case alone, SPINDLEKV_FULL=1 the full product (thinned
// where it has millions).
// By default every pair of values of two axes meets in at least one case (pairwise).
import { Prng } from "./prng.ts";

const LARGE = Symbol("large");
// Of a full run, per matrix: larger products are thinned evenly.
const MOST_CASES = 20_000;

/** A value that only the fast backends run: the SIMT host needs tens of nanoseconds a fiber switch. */
export interface Large<T> {
  readonly [LARGE]: T;
}

export function large<T>(value: T): Large<T> {
  return { [LARGE]: value };
}

function isLarge<T>(value: T | Large<T>): value is Large<T> {
  return typeof value === "object" && value !== null && LARGE in value;
}

export type Axes<A> = { readonly [K in keyof A]: readonly (A[K] | Large<A[K]>)[] };
export type Case<A> = A & { readonly id: string; readonly seed: number };

export interface MatrixOptions<A> {
  readonly seed: number;
  /** Combinations that make sense; the others are left out. */
  readonly allow?: (values: A) => boolean;
  /** Combinations too big for the SIMT host although none of their values is. */
  readonly isLarge?: (values: A) => boolean;
}

export interface Matrix<A> {
  casesFor(backend: string): Case<A>[];
}

/** Text of one axis value: numbers and flags carry the axis name, words stand for themselves. */
function label(name: string, value: unknown): string {
  if (typeof value === "boolean") return value ? name : `no-${name}`;
  return typeof value === "string" ? value : `${name}=${String(value)}`;
}

export function caseId(seed: number, values: object): string {
  const words = Object.entries(values).map(([name, value]) => label(name, value));
  return [`seed=${seed}`, ...words].join(" ");
}

/** The generator of a case: its numbers depend on the id alone. */
export function prngOf(id: string): Prng {
  let hash = 0x811c9dc5;
  for (const letter of id) hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193);
  return new Prng(hash >>> 0);
}

/** Every `step`-th combination of the product, one at a time: products of ten axes have millions. */
export function* product<A extends object>(
  axes: { [K in keyof A]: readonly A[K][] },
  step = 1,
): Generator<A> {
  const names = Object.keys(axes) as (keyof A)[];
  const total = names.reduce((count, name) => count * axes[name].length, 1);
  for (let index = 0; index < total; index += step) {
    const values: Partial<A> = {};
    let rest = index;
    for (const name of names) {
      values[name] = axes[name][rest % axes[name].length];
      rest = Math.floor(rest / axes[name].length);
    }
    yield values as A;
  }
}

/** Step that thins a product to about MOST_CASES; odd, so that it walks through the values of even axes too. */
function thinning<A extends object>(axes: { [K in keyof A]: readonly A[K][] }): number {
  const sizes = (Object.values(axes) as unknown[][]).map((values) => values.length);
  let step = Math.max(1, Math.ceil(sizes.reduce((a, b) => a * b, 1) / MOST_CASES));
  while (step > 1 && sizes.some((size) => size > 1 && step % size === 0)) step += 1;
  return step;
}

/**
 * Greedy pairwise cover: while a pair of values is unmet, build the case that meets most unmet pairs out
 * of a few seeded tries. Pairs that `allow` never permits are given up after a bounded search.
 */
export function pairwise<A extends object>(
  axes: { [K in keyof A]: readonly A[K][] },
  seed: number,
  allow: (values: A) => boolean = () => true,
): A[] {
  const random = new Prng(seed);
  const names = Object.keys(axes) as (keyof A)[];
  const pairs = new Map<string, readonly [number, number, number, number]>();
  const key = (i: number, a: number, j: number, b: number) => `${i}:${a}|${j}:${b}`;
  for (let i = 0; i < names.length; i++) {
    for (let j = i + 1; j < names.length; j++) {
      for (let a = 0; a < axes[names[i]].length; a++) {
        for (let b = 0; b < axes[names[j]].length; b++) pairs.set(key(i, a, j, b), [i, a, j, b]);
      }
    }
  }
  const toValues = (picks: number[]) =>
    Object.fromEntries(names.map((name, i) => [name, axes[name][picks[i]]])) as A;
  const met = (picks: number[]) => {
    const keys: string[] = [];
    for (let i = 0; i < picks.length; i++) {
      for (let j = i + 1; j < picks.length; j++) keys.push(key(i, picks[i], j, picks[j]));
    }
    return keys.filter((k) => pairs.has(k));
  };

  const rows: A[] = [];
  if (names.length === 1) return axes[names[0]].map((_, a) => toValues([a])).filter(allow);
  while (pairs.size > 0) {
    const [first, wanted] = pairs.entries().next().value!;
    const [i, a, j, b] = wanted;
    let best: number[] | undefined;
    let bestMet: string[] = [];
    for (let attempt = 0; attempt < 60; attempt++) {
      const picks = names.map((name) => random.integer(0, axes[name].length - 1));
      picks[i] = a;
      picks[j] = b;
      if (!allow(toValues(picks))) continue;
      const found = met(picks);
      if (found.length > bestMet.length) [best, bestMet] = [picks, found];
    }
    if (best === undefined) {
      pairs.delete(first);
      continue;
    }
    for (const k of bestMet) pairs.delete(k);
    rows.push(toValues(best));
  }
  return rows;
}

export function matrix<A extends object>(axes: Axes<A>, options: MatrixOptions<A>): Matrix<A> {
  const { seed, allow = () => true } = options;
  return {
    casesFor(backend) {
      const isSlow = backend === "simt";
      const usable = {} as { [K in keyof A]: A[K][] };
      for (const name of Object.keys(axes) as (keyof A)[]) {
        usable[name] = axes[name].flatMap((value) =>
          isLarge(value) ? (isSlow ? [] : [value[LARGE]]) : [value],
        );
      }
      const isAllowed = (values: A) => allow(values) && !(isSlow && options.isLarge?.(values));
      const named = (values: A) => ({ ...values, seed, id: caseId(seed, values) });
      const wanted = process.env.SPINDLEKV_CASE;
      if (wanted !== undefined) {
        if (!wanted.startsWith(`seed=${seed} `)) return [];
        for (const values of product<A>(usable)) {
          if (caseId(seed, values) === wanted) return [named(values)];
        }
        return [];
      }
      if (process.env.SPINDLEKV_FULL !== "1")
        return pairwise<A>(usable, seed, isAllowed).map(named);
      return [...product<A>(usable, thinning<A>(usable))].filter(isAllowed).map(named);
    },
  };
}
