/**
 * The main job, once through the whole house: a real model answers questions about its context while
 * its cache lives in spindlekv, first in full, then compressed by each method.
 *
 *   npm run demo -- [--device auto|cpu|cuda] [--prompts N] [--keep a,b] [--methods a,b] [--out DIR] [--quick]
 *
 * Prints a table; writes demo.html (plots) and demo.json (every trial) to DIR, by default here.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import {
  comparisonTable,
  makeReport,
  needle,
  progressDisplay,
  reportHtml,
  reportJson,
  resultTable,
  runTrials,
  tokenizeNeedle,
} from "spindlekv/eval";
import { loadGgufLlama } from "spindlekv/runtimes/gguf-llama";
import { openTrialCaches } from "./demo-caches.ts";
import { demoOptions } from "./demo-options.ts";

const kFirstSeed = 500_000; // texts of their own, apart from those of the tests
const kSubject = "spindle-kv"; // the method that is compared with the others

const options = demoOptions(process.argv.slice(2));
const { model, tokenizer } = await loadGgufLlama(options.model);
const caches = await openTrialCaches(options.device, model.config);
try {
  const prompts = Array.from({ length: options.prompts }, (_, i) => {
    const depth = (i + 0.5) / options.prompts;
    const prompt = needle({ seed: kFirstSeed + i, sentences: options.sentences, depth });
    return tokenizeNeedle(tokenizer, prompt);
  });
  const lengths = prompts.map(({ context }) => context.length);
  const meanLength = Math.round(lengths.reduce((sum, length) => sum + length, 0) / lengths.length);
  process.stderr.write(
    `${prompts.length} questions, ${meanLength} tokens of context each, on ${caches.device}\n`,
  );

  if (caches.cudaUnavailable !== undefined) {
    process.stderr.write(`without CUDA: ${caches.cudaUnavailable}\n`);
  }

  const trials = await runTrials({
    model,
    prompts,
    methods: options.methods,
    keeps: options.keeps,
    openCache: caches.open,
    onProgress: progressDisplay(process.stderr),
  });
  const report = makeReport(
    {
      title: "spindlekv demo: needle questions with a compressed cache",
      device: caches.device,
      model: basename(options.model),
      settings: { questions: prompts.length, "context tokens (mean)": meanLength },
    },
    trials,
    kSubject,
  );

  await mkdir(options.out, { recursive: true });
  await writeFile(join(options.out, "demo.html"), reportHtml(report));
  await writeFile(join(options.out, "demo.json"), reportJson(report));
  console.log(resultTable(report.rows));
  if (report.comparisons.length > 0) console.log(`\n${comparisonTable(report.comparisons)}`);
  console.log(
    `\nPlots: ${join(options.out, "demo.html")}, every trial: ${join(options.out, "demo.json")}`,
  );
} finally {
  caches.dispose();
}
