// The error codes are listed once, in core/error_codes.def; lib/errors.ts and docs/errors.md name
// the same codes, no more and no fewer. `--list` prints them with their meaning.
import { readText } from "./support/files.mjs";
import { fail, say } from "./support/run.mjs";

const kDefinition = "core/error_codes.def";
const problems = [];

function readDefinition() {
  const text = readText(kDefinition) ?? "";
  const entry = /^SKV_ERROR\(\s*(\w+)\s*,\s*"(\w+)"\s*,\s*"((?:[^"\\]|\\.)*)"\s*\)/gm;
  const codes = new Map();
  for (const [, suffix, code, meaning] of text.matchAll(entry)) {
    if (code !== `ERR_SPINDLEKV_${suffix}`) problems.push(`${kDefinition}: ${suffix} is ${code}`);
    if (codes.has(code)) problems.push(`${kDefinition}: ${code} is listed twice`);
    if (meaning.trim() === "") problems.push(`${kDefinition}: ${code} has no meaning`);
    codes.set(code, meaning);
  }
  const lines = text.split("\n").filter((line) => line.startsWith("SKV_ERROR(")).length;
  if (lines !== codes.size) problems.push(`${kDefinition}: ${lines} lines but ${codes.size} codes`);
  if (codes.size === 0) problems.push(`${kDefinition}: no code was found`);
  return codes;
}

/** The codes of another list are those it spells out in full. */
function compare(path, codes) {
  const text = readText(path);
  if (text === undefined) {
    problems.push(`${path} is missing`);
    return;
  }
  const named = new Set(text.match(/\bERR_SPINDLEKV_[A-Z0-9_]*[A-Z0-9]\b/g) ?? []);
  for (const code of codes.keys())
    if (!named.has(code)) problems.push(`${path}: ${code} is missing`);
  for (const code of named) {
    if (!codes.has(code)) problems.push(`${path}: ${code} is not in ${kDefinition}`);
  }
}

const codes = readDefinition();
compare("lib/errors.ts", codes);
compare("docs/errors.md", codes);

if (process.argv.includes("--list")) {
  for (const [code, meaning] of codes) console.log(`${code.padEnd(30)} ${meaning}`);
}
if (problems.length > 0) fail(`error codes:\n  ${problems.join("\n  ")}`);
say(`error codes: ${codes.size} codes agree in core, lib and docs`);
