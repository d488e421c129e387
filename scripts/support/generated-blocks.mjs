// Pages with generated blocks, which lie between <!-- name:begin --> and <!-- name:end -->.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readText } from "./files.mjs";
import { fail, root, say } from "./run.mjs";

/** What a block says while its results are not there. */
export const kNone = "No result is committed yet.";

/** A Markdown table. */
export const table = (head, rows) =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");

/**
 * Fills the blocks of a page; with `--check` on the command line it writes nothing and fails when a block is not
 * what it should be.
 *
 * @param blocks name to the function that makes the block
 * @param script what to run when the page is stale
 */
export function updateBlocks(page, blocks, script) {
  const before = readText(page);
  if (before === undefined) fail(`${page} is not there`);
  let after = before;
  for (const [name, make] of Object.entries(blocks)) {
    const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`];
    const start = after.indexOf(begin);
    const stop = after.indexOf(end);
    if (start < 0 || stop < start) fail(`${page} has no block ${begin} .. ${end}`);
    after = `${after.slice(0, start + begin.length)}\n${make()}\n${after.slice(stop)}`;
  }
  if (!process.argv.includes("--check")) {
    writeFileSync(join(root, page), after);
    say(`${page} is up to date`);
  } else if (after === before) {
    say(`${page} agrees with the results`);
  } else {
    fail(`${page} is stale: run \`node ${script}\``);
  }
}
