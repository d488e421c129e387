// Makes a profile of a model's KV heads for `baklava` from needle prompts:
//   node scripts/profile-heads.mjs test/model/recall.gguf test/model/recall-profile.json
// Reads the bundle (`npm run build`). Importance is written to 4 digits.
import { writeFileSync } from "node:fs";
import { basename } from "node:path";
import { profileHeads, needle } from "../dist/eval/index.mjs";
import { KVCache, openDevice } from "../dist/index.mjs";
import { loadGgufLlama } from "../dist/runtimes/gguf-llama/index.mjs";
import { fail, say } from "./support/run.mjs";

// Apart from the seeds of the evaluation, which count from 0.
const kSeeds = [900_001, 900_002, 900_003, 900_004];
const kSentences = 40;

const [modelPath, outputPath] = process.argv.slice(2);
if (outputPath === undefined)
  fail("profile-heads: expected the paths of a GGUF file and of the result");

const { model, tokenizer, config } = await loadGgufLlama(modelPath);
const { layers, queryHeads, kvHeads, headDim, rope } = config;
const device = await openDevice();
const prompts = kSeeds.map((seed, i) =>
  tokenizer.encode(needle({ seed, sentences: kSentences, depth: (i + 0.5) / kSeeds.length }).text),
);
const profile = await profileHeads({
  name: basename(modelPath),
  model,
  prompts,
  openCache: () => new KVCache(device, { layers, queryHeads, kvHeads, headDim, rope }),
});
const importance = profile.importance.map((row) => row.map((value) => Number(value.toFixed(4))));
writeFileSync(outputPath, `${JSON.stringify({ ...profile, importance }, null, 2)}\n`);
const tokens = prompts.reduce((sum, prompt) => sum + prompt.length, 0);
say(
  `profile-heads: ${layers} layers of ${kvHeads} KV heads from ${tokens} tokens in ${outputPath}`,
);
