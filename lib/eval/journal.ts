/**
 * A journal of finished measurements: one JSON object a line, the settings first. A run that was cut off goes
 * on from it; a line that was cut off is dropped. Results of other settings never mix: such a journal is
 * refused, and the message names what differs.
 */
import { appendFileSync, existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { describeValue, type SpindleKVError, spindleError } from "../errors.js";

/** What a run was asked for, by name; values survive JSON. */
export type JournalSettings = Readonly<Record<string, unknown>>;

/** A finished measurement: `key` is unique within the run. */
export interface JournalEntry<Kind extends string = string, Value = unknown> {
  readonly kind: Kind;
  readonly key: string;
  readonly value: Value;
}

export interface Journal {
  readonly path: string;
  /** Whether a measurement is there. */
  readonly has: (kind: string, key: string) => boolean;
  /** All of a kind, in the order they were added. */
  readonly all: <Value>(kind: string) => Value[];
  /** Adds one; it is on disk when this returns. */
  readonly add: (kind: string, key: string, value: unknown) => void;
}

/**
 * Opens a journal.
 *
 * @param isResumed whether one that is there is continued; without it one that is there is an error, so that no
 *   measurement is lost by mistake
 * @throws {SpindleKVError} ERR_SPINDLEKV_ARGUMENT for a journal of other settings, or one that is there and not resumed
 * @throws {SpindleKVError} ERR_SPINDLEKV_FILE when the file is no journal
 */
export function openJournal(path: string, settings: JournalSettings, isResumed: boolean): Journal {
  const entries: JournalEntry[] = [];
  if (existsSync(path)) {
    if (!isResumed) {
      throw journalError(
        `expected --resume or another folder for output, got ${path} of a run before`,
      );
    }
    entries.push(...readEntries(path, settings));
  } else {
    writeFileSync(path, `${JSON.stringify({ settings })}\n`);
  }
  const known = new Map(entries.map((entry) => [nameOf(entry.kind, entry.key), entry]));
  return {
    path,
    has: (kind, key) => known.has(nameOf(kind, key)),
    all: <Value>(kind: string) =>
      [...known.values()].filter((entry) => entry.kind === kind).map(({ value }) => value as Value),
    add: (kind, key, value) => {
      const entry = { kind, key, value };
      appendFileSync(path, `${JSON.stringify(entry)}\n`);
      known.set(nameOf(kind, key), entry);
    },
  };
}

const nameOf = (kind: string, key: string) => `${kind}/${key}`;

/** Reads the entries and cuts off a last line that did not get to its end. */
function readEntries(path: string, settings: JournalSettings): JournalEntry[] {
  const text = readFileSync(path, "utf8");
  const end = text.lastIndexOf("\n") + 1;
  const lines = text
    .slice(0, end)
    .split("\n")
    .slice(0, -1)
    .map((line) => parse(path, line));
  const [head, ...entries] = lines as [
    { settings?: JournalSettings } | undefined,
    ...JournalEntry[],
  ];
  if (typeof head?.settings !== "object") {
    throw fileError(
      `expected a journal for ${path}, got a file without settings in its first line`,
    );
  }
  checkSettings(path, head.settings, settings);
  if (end < text.length) truncateSync(path, Buffer.byteLength(text.slice(0, end)));
  return entries;
}

function parse(path: string, line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw fileError(`expected lines of JSON for ${path}, got ${describeValue(line)}`, cause);
  }
}

function checkSettings(path: string, before: JournalSettings, now: JournalSettings): void {
  for (const name of new Set([...Object.keys(before), ...Object.keys(now)])) {
    const [was, is] = [before[name], now[name]].map((value) => JSON.stringify(value));
    if (was !== is) {
      throw journalError(`expected the settings of ${path} for ${name}, that is ${was}, got ${is}`);
    }
  }
}

function journalError(message: string): SpindleKVError {
  return spindleError("ERR_SPINDLEKV_ARGUMENT", "eval", `eval: ${message}`);
}

function fileError(message: string, cause?: unknown): SpindleKVError {
  return spindleError("ERR_SPINDLEKV_FILE", "eval", `eval: ${message}`, cause);
}
