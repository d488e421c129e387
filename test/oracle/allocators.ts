// Oracles of the budgets that share a total out by evidence, from the papers' formulas in float64, plain loops and
// plain sorts. B = total / L; integers by the largest-remainder method of budgets.ts.
import { hamilton } from "./budgets.ts";

/** Rows of scores of each layer. */
export type LayerRows = readonly (readonly Float32Array[])[];

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

/**
 * Parts of a total in proportion to shares, none above its cap: x_i = min(cap_i, t * share_i) with the t that makes the
 * sum right, found among the places where an entry becomes full. Once all entries with a share are full, those without
 * one divide the rest evenly.
 */
export function capped(
  shares: readonly number[],
  total: number,
  caps: readonly number[],
): number[] {
  const wanted = Math.min(total, sum(caps as number[]));
  const at = (t: number) => shares.map((s, i) => (s === 0 ? 0 : Math.min(caps[i], t * s)));
  const turns = shares.map((s, i) => (s === 0 ? 0 : caps[i] / s)).sort((a, b) => a - b);
  let from = 0;
  for (const turn of turns) {
    if (sum(at(turn)) > wanted) break;
    from = turn;
  }
  const reached = at(from);
  const rising = shares.map((s, i) => (s > 0 && caps[i] / s > from ? s : 0));
  const slope = sum(rising);
  const left = wanted - sum(reached);
  if (slope > 0) return reached.map((x, i) => x + (left * rising[i]) / slope);
  const empty = shares.map((s) => s === 0);
  if (left <= 0 || !empty.includes(true)) return reached;
  const even = capped(
    empty.filter((is) => is).map(() => 1),
    left,
    caps.filter((_, i) => empty[i]),
  );
  return reached.map((x, i) => (empty[i] ? (even.shift() as number) : x));
}

/** {@link capped}, made integers. */
export function cappedIntegers(
  shares: readonly number[],
  total: number,
  caps: readonly number[],
): number[] {
  return hamilton(capped(shares, total, caps));
}

/** 12 significant bits: a binary mantissa of that length, rounded to nearest. */
export function rounded12(value: number): number {
  if (value === 0) return 0;
  let unit = 1;
  while (value / unit >= 4096) unit *= 2;
  while (value / unit < 2048) unit /= 2;
  return Math.round(value / unit) * unit;
}

const alike = (layers: number, cap: number) => new Array<number>(layers).fill(cap);

/** PyramidInfer's schedule: weights of the layers, w_0 = 1, w_(l+1) = w_l * rho_l, rho_l on a half cosine. */
export function cosineBudgets(
  total: number,
  layers: number,
  context: number,
  decay: number,
  interval: number,
): number[] {
  const weights: number[] = [];
  for (let l = 0; l < layers; l++) {
    let weight = 1;
    for (let before = 0; before < l; before++) {
      if (before % interval !== 0) continue;
      weight *= decay + ((1 - decay) * (1 + Math.cos((Math.PI * before) / layers))) / 2;
    }
    weights.push(weight);
  }
  return cappedIntegers(weights, total, alike(layers, context));
}

/** Sum over three groups of squared distances to the group's mean. */
export function clusterCost(values: readonly number[], groups: readonly number[]): number {
  let cost = 0;
  for (const group of [0, 1, 2]) {
    const own = values.filter((_, i) => groups[i] === group);
    const mean = sum(own) / own.length;
    for (const value of own) cost += (value - mean) ** 2;
  }
  return cost;
}

/** Least cost over every one of the 3^n assignments. */
export function leastClusterCost(values: readonly number[]): number {
  let least = Number.POSITIVE_INFINITY;
  for (let code = 0; code < 3 ** values.length; code++) {
    const groups = values.map((_, i) => Math.floor(code / 3 ** i) % 3);
    least = Math.min(least, clusterCost(values, groups));
  }
  return least;
}

/** SqueezeAttention: p * B for the layers of the group with the highest cosines, the rest of L * B to the others. */
export function squeezeBudgets(
  total: number,
  cosines: readonly number[],
  context: number,
  p: number,
): number[] {
  const layers = cosines.length;
  const sorted = [...new Set(cosines)].sort((a, b) => a - b);
  // Groups of numbers on a line are intervals: the highest one begins at one of the values.
  let highest = sorted.at(-1) as number;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 1; i < sorted.length; i++) {
    for (let j = i + 1; j < sorted.length; j++) {
      const groups = cosines.map((c) => (c < sorted[i] ? 0 : c < sorted[j] ? 1 : 2));
      const cost = clusterCost(cosines, groups);
      if (cost < least) {
        least = cost;
        highest = sorted[j];
      }
    }
  }
  const count = cosines.filter((c) => c >= highest).length;
  const mean = total / layers;
  const other = (layers * mean - count * p * mean) / (layers - count);
  const shares =
    count === layers ? alike(layers, mean) : cosines.map((c) => (c >= highest ? p * mean : other));
  // Where nothing is to be shared out, every share is as good.
  return cappedIntegers(total === 0 ? alike(layers, 1) : shares, total, alike(layers, context));
}

const descending = (row: Float32Array) => Array.from(row).sort((a, b) => b - a);

/** Fewest of a row's scores that hold a part of their sum. */
export function fewestOfMass(row: Float32Array, mass: number): number {
  const sorted = descending(row);
  const whole = sum(sorted);
  let held = 0;
  for (let count = 0; count < sorted.length; count++) {
    if (held >= mass * whole * (1 - 1e-12)) return count;
    held += sorted[count];
  }
  return sorted.length;
}

/** ZigZagKV, eq. 6: bound * B + (1 - bound) * B * L * u_l, u the layers' shares of the slots that hold the mass. */
export function uncertaintyBudgets(
  total: number,
  scores: LayerRows,
  context: number,
  mass: number,
  bound: number,
): number[] {
  const layers = scores.length;
  const needed = scores.map((rows) => sum(rows.map((row) => fewestOfMass(row, mass))));
  const mean = total / layers;
  const shares = needed.map((slots) => {
    const u = sum(needed) === 0 ? 1 / layers : slots / sum(needed);
    return bound * mean + (1 - bound) * mean * layers * u;
  });
  return cappedIntegers(total === 0 ? alike(layers, 1) : shares, total, alike(layers, context));
}

/** CAKE: in proportion to H^(1/tau1) V^(1/tau2). */
export function cascadeBudgets(
  total: number,
  entropies: readonly number[],
  variances: readonly number[],
  context: number,
  tau1: number,
  tau2: number,
): number[] {
  const shares = entropies.map((h, l) => rounded12(h ** (1 / tau1) * variances[l] ** (1 / tau2)));
  return cappedIntegers(shares, total, alike(shares.length, context));
}

/** LAVa: in proportion to the entropy of a layer's scores, normalised by that of equal ones. */
export function entropyBudgets(total: number, scores: LayerRows, context: number): number[] {
  const shares = scores.map((rows) => {
    const all = rows.flatMap((row) => Array.from(row));
    const whole = sum(all);
    let entropy = 0;
    for (const score of all) if (score > 0) entropy -= (score / whole) * Math.log(score / whole);
    return all.length < 2 || whole === 0
      ? 0
      : rounded12(Math.max(0, entropy) / Math.log(all.length));
  });
  return cappedIntegers(shares, total, alike(shares.length, context));
}

/** Slots that layer l needs, mean over its heads, so that each head holds a part p of its scores. */
export function slotsOfPrefix(rows: readonly Float32Array[], p: number): number {
  return sum(rows.map((row) => fewestOfMass(row, p))) / rows.length;
}

/** PrefixKV with the curves known at i / 256 and straight between: the p at which the layers' slots sum to the total. */
export function prefixBudgets(total: number, scores: LayerRows, context: number): number[] {
  const curves = scores.map((rows) =>
    Array.from({ length: 257 }, (_, i) => slotsOfPrefix(rows, i / 256)),
  );
  // Sums of straight pieces are straight between grid points: find the last piece that begins within the total.
  let piece = 0;
  for (let i = 0; i < 256; i++) if (sum(curves.map((curve) => curve[i])) <= total) piece = i;
  const low = curves.map((curve) => curve[piece]);
  const high = curves.map((curve) => curve[piece + 1]);
  const rise = sum(high) - sum(low);
  const part = rise === 0 ? 1 : Math.min(1, Math.max(0, (total - sum(low)) / rise));
  const slots = low.map((x, l) => x + part * (high[l] - x));
  return cappedIntegers(slots, total, alike(scores.length, context));
}

interface Ranked {
  readonly layer: number;
  readonly row: number;
  readonly slot: number;
  readonly score: number;
}

/** All scores, best first: larger before smaller, NaN last, then the earlier layer, row and slot. */
export function allRanked(scores: LayerRows): Ranked[] {
  const all: Ranked[] = [];
  scores.forEach((rows, layer) => {
    rows.forEach((values, row) => {
      values.forEach((score, slot) => {
        all.push({ layer, row, slot, score });
      });
    });
  });
  const before = (a: number, b: number) => {
    if (Number.isNaN(a) || Number.isNaN(b))
      return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
    return b > a ? 1 : b < a ? -1 : 0;
  };
  return all.sort(
    (a, b) => before(a.score, b.score) || a.layer - b.layer || a.row - b.row || a.slot - b.slot,
  );
}

/** How many of the best k scores each row of each layer has; a layer whose `most` is used up is passed over. */
export function bestCounts(scores: LayerRows, k: number, most = Number.POSITIVE_INFINITY) {
  const counts = scores.map((rows) => rows.map(() => 0));
  let taken = 0;
  for (const { layer, row } of allRanked(scores)) {
    if (taken >= k) break;
    if (sum(counts[layer]) >= most) continue;
    counts[layer][row] += 1;
    taken += 1;
  }
  return counts;
}

/** DynamicKV: layers by the best total * H of all scores, at most ceil(most * B) a layer and head. */
export function globalLayerBudgets(
  total: number,
  scores: LayerRows,
  context: number,
  most: number,
): number[] {
  const heads = scores[0].length;
  const layers = scores.length;
  const cap = Math.min(context, Math.ceil((most * total) / layers));
  const counts = bestCounts(scores, total * heads, cap * heads);
  return cappedIntegers(
    counts.map((rows) => sum(rows) / heads),
    total,
    alike(layers, cap),
  );
}

/** Ada-KV inside one layer: (1 - floor) * (slots among the layer's best H * k) + floor * k, exact sum H * k. */
export function adaptiveHeadBudgets(
  k: number,
  rows: readonly Float32Array[],
  floor: number,
): number[] {
  const [counts] = bestCounts([rows], k * rows.length);
  return cappedIntegers(
    counts.map((count) => (1 - floor) * count + floor * k),
    k * rows.length,
    rows.map((row) => row.length),
  );
}

/** DBudgetKV: slots behind the sinks so that at most `loss` of the row's L2 norm goes; `whole`: all of a head's slots. */
export function coverageSuffix(whole: Float32Array, sinks: number, loss: number): number {
  const norm = (values: Float32Array) => Math.hypot(...values);
  const all = norm(whole);
  for (let suffix = 0; suffix < whole.length - sinks; suffix++) {
    const kept = whole.filter((_, i) => i < sinks || i >= whole.length - suffix);
    if (all - norm(kept) <= loss * all) return suffix;
  }
  return whole.length - Math.min(sinks, whole.length);
}

/** Offline table: least * B for every head, the rest in proportion to importance^tau. */
export function profiledBudgets(
  total: number,
  importance: readonly (readonly number[])[],
  context: number,
  tau: number,
  least: number,
): number[][] {
  const layers = importance.length;
  const heads = importance[0].length;
  const wanted = Math.min(total, layers * context);
  const floor = Math.min(context, (least * total) / layers);
  const room = alike(layers * heads, context - floor);
  const more = capped(
    importance.flat().map((value) => value ** tau),
    wanted * heads - layers * heads * floor,
    room,
  );
  const plan = hamilton(more.map((slots) => floor + slots));
  return importance.map((_, l) => plan.slice(l * heads, (l + 1) * heads));
}
