/**
 * A progress display on a stream: a bar that redraws itself on a terminal; elsewhere (a log file, CI)
 * a plain line now and then.
 */

/** The part of `process.stderr` used here. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

const kBarCells = 28;
const kRedrawMs = 80;
const kLineMs = 10_000;

/** Returns the function to call at each step. The bar ends with a line break when `done` = `total`. */
export function progressDisplay(
  stream: ProgressStream,
  now: () => number = () => performance.now(),
): (progress: { done: number; total: number; label: string }) => void {
  const start = now();
  let lastShown = Number.NEGATIVE_INFINITY;
  return ({ done, total, label }) => {
    const isEnd = done >= total;
    const isTerminal = stream.isTTY === true;
    if (!isEnd && now() - lastShown < (isTerminal ? kRedrawMs : kLineMs)) return;
    lastShown = now();
    const seconds = (lastShown - start) / 1000;
    const fraction = total === 0 ? 1 : done / total;
    const left = done > 0 && !isEnd ? `, about ${clock(seconds / fraction - seconds)} left` : "";
    const status = `${done}/${total}  ${clock(seconds)}${left}  ${label}`;
    if (!isTerminal) {
      stream.write(`${status}\n`);
      return;
    }
    const full = Math.round(fraction * kBarCells);
    const bar = `[${"#".repeat(full)}${".".repeat(kBarCells - full)}] ${status}`;
    // Back to the first column, the line cut to the terminal's width, the rest erased.
    stream.write(`\r${bar.slice(0, (stream.columns ?? 80) - 1)}\u001b[K${isEnd ? "\n" : ""}`);
  };
}

function clock(seconds: number): string {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
