// How often each instruction of a kernel runs: loops are found in the machine code, matched with the `for` of the
// source by line, and multiplied by the trip counts that a model gives for it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../support/run.mjs";
import {
  blocksOf,
  histogramOf,
  instructionName,
  kInstructionBytes,
  loopsOf,
} from "../support/sass.mjs";

const sourceLines = new Map();

/** Lines of a source file. */
function linesOfFile(file) {
  if (!sourceLines.has(file)) {
    sourceLines.set(file, readFileSync(join(root, file), "utf8").split("\n"));
  }
  return sourceLines.get(file);
}

/** First and last line of a function's body. */
export function linesOfFunction(file, name) {
  const lines = linesOfFile(file);
  const start = lines.findIndex((line) => new RegExp(`[ &*]${name}\\(`).test(line));
  if (start < 0) throw new Error(`expected a function ${name} in ${file}`);
  return [start + 1, endOfBraces(file, start)];
}

/** Number of the line that closes the first brace from a line (counted from 0) on. */
function endOfBraces(file, start) {
  const lines = linesOfFile(file);
  let depth = 0;
  for (let index = start; index < lines.length; index++) {
    for (const letter of lines[index]) {
      if (letter === "{") depth++;
      if (letter === "}" && --depth === 0) return index + 1;
    }
  }
  throw new Error(`expected a closing brace after line ${start + 1} of ${file}`);
}

/**
 * Number of the one line of a file (of a function `within` it) that holds the text. Throws when the source has
 * changed.
 */
export function lineWith(file, text, within) {
  const [first, last] = within ? linesOfFunction(file, within) : [1, Number.POSITIVE_INFINITY];
  const found = linesOfFile(file).flatMap((line, index) =>
    index + 1 >= first && index + 1 <= last && line.includes(text) ? index + 1 : [],
  );
  if (found.length !== 1) {
    const where = within ? `${within} of ${file}` : file;
    throw new Error(`expected one line of ${where} with \`${text}\`, found ${found.length}`);
  }
  return found[0];
}

/** A function that gives {file, line} of an address; file relative to the root, or undefined outside. */
function locator(kernel) {
  const relative = new Map();
  const inside = (file) => {
    if (!relative.has(file)) relative.set(file, /(?:^|\/)((?:cuda|core)\/.*)$/.exec(file)?.[1]);
    return relative.get(file);
  };
  return (at) => {
    let [low, high] = [0, kernel.lines.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (kernel.lines[middle].address <= at) low = middle;
      else high = middle - 1;
    }
    const entry = kernel.lines[low];
    return entry ? { file: inside(entry.file), line: entry.line } : {};
  };
}

/** Lines of a part of a model: {file, within, from?, to?}, a function or what lies between two texts in it. */
function linesOfPart({ file, within, from, to = from }) {
  if (!from) return linesOfFunction(file, within);
  return [lineWith(file, from, within), lineWith(file, to, within)];
}

/** Instructions of a piece where two ways meet, at most: it may stand under the lines of either. */
const kJoin = 3;

/**
 * How often straight pieces of code run, by address, where that is not once: those most of whose instructions come
 * from parts of the model that run equally often run so often, and those that only lead on from dead ones are dead too.
 */
function sharesOf(kernel, place, parts) {
  const partAt = (at) => {
    const { file, line } = place(at);
    return parts.find((part) => part.file === file && line >= part.first && line <= part.last);
  };
  const blocks = blocksOf(kernel.code, kernel.architecture);
  const times = new Map();
  for (const { first, last } of blocks) {
    const tally = new Map();
    for (let at = first; at <= last; at += kInstructionBytes) {
      const part = partAt(at);
      if (part !== undefined) tally.set(part.times, (tally.get(part.times) ?? 0) + 1);
    }
    const [most] = [...tally].sort((x, y) => y[1] - x[1]);
    const size = (last - first) / kInstructionBytes + 1;
    const isPart = most !== undefined && size > kJoin && most[1] * 2 > size;
    times.set(first, isPart ? most[0] : 1);
  }
  const reached = new Set([0]);
  const pending = [0];
  const byStart = new Map(blocks.map((block) => [block.first, block]));
  for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
    if (times.get(at) === 0) continue;
    for (const next of byStart.get(at)?.next ?? []) {
      if (reached.has(next)) continue;
      reached.add(next);
      pending.push(next);
    }
  }
  const shares = new Map();
  for (const { first, last } of blocks) {
    const share = reached.has(first) ? times.get(first) : 0;
    if (share === 1) continue;
    for (let at = first; at <= last; at += kInstructionBytes) shares.set(at, share);
  }
  return shares;
}

/** Loops that are one of the source, with the line of their `for`. */
function sourceLoops(kernel, place) {
  return loopsOf(kernel.code, kernel.architecture).flatMap((loop) => {
    const backs = loop.branches.map(place).filter(({ file }) => file !== undefined);
    if (backs.length === 0) return []; // out-of-line pieces of a warp operation jump back too
    return [{ ...loop, ...backs[0] }];
  });
}

const holds = (outer, inner) =>
  outer !== inner && outer.first <= inner.first && outer.last >= inner.last;

/** Copies that the compiler made of one source loop stand beside each other: the largest does the work. */
function workingCopies(loops) {
  const parent = (loop) => loops.filter((other) => holds(other, loop)).at(-1);
  const groups = new Map();
  for (const loop of loops) {
    const outer = parent(loop);
    const key = `${loop.file}:${loop.line}:${outer?.first ?? ""}`;
    groups.set(key, [...(groups.get(key) ?? []), loop]);
  }
  const size = ({ first, last }) => last - first;
  return [...groups.values()].map((copies) => copies.sort((a, b) => size(b) - size(a)));
}

/**
 * Executions of a kernel by one warp: counts by instruction name, and what the model does not know.
 *
 * A model's loop: {file, within, text, trips(shape), unit?}. `text` is in the line of the `for`, inside the function
 * `within`; `trips` how often its body
 * runs for a thread each time it is reached; `unit` [name, times] says how many of an instruction one round of the
 * source has, from which follows how far the compiler unrolled. Without a unit the copies' sizes tell. `isWhole`: the
 * trips are a multiple of that, so that straight copies of the body for what is left never run.
 */
export function countKernel(kernel, model, shape) {
  const place = locator(kernel);
  const parts = (model.parts ?? []).map((part) => {
    const [first, last] = linesOfPart(part);
    return { file: part.file, first, last, times: part.times?.(shape) ?? 0 };
  });
  const shares = sharesOf(kernel, place, parts);
  const isDead = ({ file, line }) =>
    parts.some(
      (part) => part.times === 0 && part.file === file && line >= part.first && line <= part.last,
    );
  const isIn = (loop) => (at) => at >= loop.first && at <= loop.last && shares.get(at) !== 0;
  const known = model.loops.map((loop) => ({
    ...loop,
    line: lineWith(loop.file, loop.text, loop.within),
  }));
  const problems = [];
  const trips = new Map();
  const remainders = [];
  for (const copies of workingCopies(sourceLoops(kernel, place))) {
    const alive = copies.filter((loop) => histogramOf(kernel.code, isIn(loop)).instructions > 0);
    if (alive.length === 0) continue;
    const [working, ...others] = alive;
    if (isDead(working)) {
      for (const loop of alive) trips.set(loop, 0);
      continue;
    }
    const spec = known.find(({ file, line }) => file === working.file && line === working.line);
    if (spec === undefined) {
      const size = histogramOf(kernel.code, isIn(working)).instructions;
      problems.push(
        `the loop at ${working.file}:${working.line} (${size} instructions) counts once`,
      );
      continue;
    }
    const found = histogramOf(kernel.code, isIn(working));
    const smallest = others.at(-1);
    const unrolled = spec.unit
      ? (found[spec.unit[0]] ?? 0) / spec.unit[1]
      : smallest
        ? Math.max(1, Math.round((working.last - working.first) / (smallest.last - smallest.first)))
        : 1;
    if (unrolled <= 0) {
      problems.push(`the loop at ${working.file}:${working.line} has no ${spec.unit[0]}`);
      continue;
    }
    const rounds = spec.trips(shape) / unrolled;
    trips.set(working, rounds);
    if (spec.isWhole) remainders.push({ ...working, end: endOfBraces(spec.file, spec.line - 1) });
    for (const other of others) trips.set(other, 0);
  }
  const unseen = known.filter(
    ({ file, line, isOptional }) =>
      !isOptional && ![...trips.keys()].some((loop) => loop.file === file && loop.line === line),
  );
  for (const { file, text } of unseen)
    problems.push(`no loop was found for \`${text}\` of ${file}`);
  const isRemainder = (at) => {
    const { file, line } = place(at);
    return remainders.some(
      (loop) =>
        loop.file === file &&
        line > loop.line &&
        line < loop.end &&
        (at < loop.first || at > loop.last),
    );
  };
  const counts = { instructions: 0 };
  for (let at = 0; at < kernel.code.length; at += kInstructionBytes) {
    let times = isRemainder(at) ? 0 : (shares.get(at) ?? 1);
    for (const [loop, rounds] of trips) if (at >= loop.first && at <= loop.last) times *= rounds;
    counts.instructions += times;
    const name = instructionName(kernel.code, at);
    if (name !== undefined) counts[name] = (counts[name] ?? 0) + times;
  }
  return { counts, problems };
}
