// Type-checks every ```ts block of README.md, CONTRIBUTING.md and docs/, and checks that relative
// links lead somewhere. A block is a program of its own; what it takes as given is declared in a
// comment right before it, which the reader of the rendered page does not see:
//
//   <!-- given: declare const keys: Tensor; import type { Tensor } from "spindlekv"; -->
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, posix } from "node:path";
import { filesUnder, readText } from "./support/files.mjs";
import { ensureInstalled } from "./support/install.mjs";
import { capture, fail, root, say, tool } from "./support/run.mjs";

const kFolder = "build/docs";
const problems = [];

const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
  .filter((path) => existsSync(join(root, path)))
  .concat(filesUnder("docs", (path) => path.endsWith(".md")));

/** The ts blocks of a page: code, line of its first line, and what it takes as given. */
function blocksOf(text) {
  const blocks = [];
  const fence = /(?:<!--\s*given:([\s\S]*?)-->\s*\n)?^```(?:ts|typescript)[^\n]*\n([\s\S]*?)^```/gm;
  for (const match of text.matchAll(fence)) {
    const start = match.index + match[0].lastIndexOf(match[2]);
    const line = text.slice(0, start).split("\n").length;
    blocks.push({ given: (match[1] ?? "").replaceAll("\n", " ").trim(), code: match[2], line });
  }
  return blocks;
}

function checkLinks(page, text) {
  const prose = text.replace(/^```[\s\S]*?^```/gm, "");
  for (const [, target] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^([a-z]+:|#)/.test(target)) continue;
    const path = posix.join(posix.dirname(page), target.replace(/#.*$/, ""));
    if (!existsSync(join(root, path))) problems.push(`${page}: the link ${target} leads nowhere`);
  }
}

ensureInstalled();
rmSync(join(root, kFolder), { recursive: true, force: true });
mkdirSync(join(root, kFolder), { recursive: true });
const origins = new Map();
for (const page of pages) {
  const text = readText(page);
  checkLinks(page, text);
  for (const { given, code, line } of blocksOf(text)) {
    const name = `${page.replaceAll("/", "-").replace(/\.md$/, "")}-${line}.ts`;
    // One line goes before the code, so line n of the file is line n - 2 + `line` of the page.
    writeFileSync(join(root, kFolder, name), `export {}; ${given}\n${code}`);
    origins.set(name, { page, line });
  }
}

if (origins.size > 0) {
  const config = {
    extends: "../../tsconfig.json",
    compilerOptions: {
      incremental: false,
      tsBuildInfoFile: null,
      noUnusedLocals: false,
      noUnusedParameters: false,
      typeRoots: ["../../node_modules/@types"],
    },
    include: ["*.ts"],
    exclude: [],
  };
  writeFileSync(join(root, kFolder, "tsconfig.json"), JSON.stringify(config, null, 2));
  const checked = capture(tool("tsc"), ["--project", kFolder, "--pretty", "false"]);
  for (const report of checked.stdout.split("\n").filter(Boolean)) {
    const match = /^(?:.*\/)?([^/(]+\.ts)\((\d+),\d+\): (.*)$/.exec(report);
    const origin = match && origins.get(match[1]);
    problems.push(
      origin ? `${origin.page}:${origin.line + Number(match[2]) - 2}: ${match[3]}` : report,
    );
  }
  if (checked.status !== 0 && problems.length === 0) problems.push(checked.stderr || "tsc failed");
}
if (pages.length === 0) problems.push("no page was found");
if (problems.length > 0) fail(`docs:\n  ${problems.join("\n  ")}`);
say(
  `docs: ${origins.size} code blocks on ${pages.length} pages are well typed, links lead somewhere`,
);
