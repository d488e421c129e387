// Oracle of the layer budgets: how many of the `context` ranked slots of a head each of L layers keeps, from the
// printed formulas, in float64, made integers by the largest-remainder method (Hamilton): round down, then one more
// for the largest remainders, the earlier layer first among equal ones.

/** Remainders closer than this are equal: float64 noise must not decide what the formulas leave equal. */
const SAME_REMAINDER = 1e-9;

export function hamilton(shares: readonly number[]): number[] {
  const whole = shares.map((share) => Math.floor(share + SAME_REMAINDER));
  const rest = shares.map((share, i) => share - whole[i]);
  let left = Math.round(shares.reduce((a, b) => a + b, 0)) - whole.reduce((a, b) => a + b, 0);
  const order = [...shares.keys()].sort((a, b) =>
    Math.abs(rest[a] - rest[b]) < SAME_REMAINDER ? a - b : rest[b] - rest[a],
  );
  for (const layer of order) {
    if (left === 0) break;
    whole[layer] += 1;
    left -= 1;
  }
  return whole;
}

/** Every layer the same (SnapKV, StreamingLLM). */
export function uniformBudgets(total: number, layers: number, context: number): number[] {
  const wanted = Math.min(total, layers * context);
  return hamilton(new Array<number>(layers).fill(wanted / layers));
}

/**
 * PyramidKV (arXiv 2406.02069, section 4.1, and its reference code without the integer step):
 *   B = total / L, min = B / beta, max = 2 B - min; if max >= context: max = context, min = 2 B - max;
 *   B_l = max - l (max - min) / (L - 1); B where context + guarded (the prompt) < 2 B.
 */
export function pyramidBudgets(
  total: number,
  layers: number,
  context: number,
  beta: number,
  guarded = 0,
): number[] {
  const mean = Math.min(total / layers, context);
  let min = mean / beta;
  let max = 2 * mean - min;
  if (max >= context) {
    max = context;
    min = 2 * mean - max;
  }
  if (context + guarded < 2 * mean || layers === 1) min = max = mean;
  return hamilton(
    Array.from({ length: layers }, (_, l) =>
      layers === 1 ? mean : max - (l * (max - min)) / (layers - 1),
    ),
  );
}

/**
 * SpindleKV (arXiv 2507.06517, eq. 5-6, second branch with its sign corrected), shares of the context:
 *   alpha = (1 + beta) / 2; r(0), r(L-1) = 2r - beta, beta  if beta < r <= alpha;  1, 2r - 1  if alpha < r <= 1;
 *   r, r where the paper has no rule (r <= beta); r(l) = r(0) + (r(L-1) - r(0)) l / (L - 1).
 */
export function spindleBudgets(
  total: number,
  layers: number,
  context: number,
  beta: number,
): number[] {
  if (context === 0) return new Array<number>(layers).fill(0);
  const r = Math.min(1, total / (layers * context));
  const alpha = (1 + beta) / 2;
  const ends = r <= beta ? [r, r] : r <= alpha ? [2 * r - beta, beta] : [1, 2 * r - 1];
  const share = (l: number) =>
    layers === 1 ? r : ends[0] + ((ends[1] - ends[0]) * l) / (layers - 1);
  return hamilton(Array.from({ length: layers }, (_, l) => share(l) * context));
}
