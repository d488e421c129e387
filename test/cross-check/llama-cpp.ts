// The second implementation: llama.cpp through node-llama-cpp. It is installed in this folder by `npm test` (see
// docs/decisions/0001-tooling.md); where it is not (other platforms), tests skip and say so.
import { existsSync } from "node:fs";

/** The part of node-llama-cpp used here, so that type checking does not need the package. */
interface Package {
  getLlama(options: { gpu: false; build: "never"; logLevel: string }): Promise<Llama>;
}
interface Llama {
  loadModel(options: { modelPath: string; vocabOnly?: boolean }): Promise<Model>;
  dispose(): Promise<void>;
}
interface Model {
  /** Without the tokens that frame a text. */
  tokenize(text: string): number[];
  detokenize(tokens: number[]): string;
  createContext(options: {
    contextSize: number;
    threads: number;
  }): Promise<{ getSequence(): Sequence }>;
  dispose(): Promise<void>;
}
interface Sequence {
  controlledEvaluate(
    input: [number, { generateNext: { probabilities: true } }][],
  ): Promise<{ next: { probabilities: Map<number, number> } }[]>;
}

const entry = new URL("./node_modules/node-llama-cpp/dist/index.js", import.meta.url);
export const hasLlamaCpp = existsSync(entry);
if (!hasLlamaCpp) {
  console.warn(
    "llama.cpp is not compared with: node-llama-cpp is not installed in test/cross-check",
  );
}

let started: Promise<Llama> | undefined;

/** Runs `body` on a model in llama.cpp, which starts once per test file. */
async function withModel<Result>(
  options: { modelPath: string; vocabOnly?: boolean },
  body: (model: Model) => Promise<Result> | Result,
): Promise<Result> {
  started ??= (import(entry.href) as Promise<Package>).then(({ getLlama }) =>
    getLlama({ gpu: false, build: "never", logLevel: "error" }),
  );
  const model = await (await started).loadModel(options);
  try {
    return await body(model);
  } finally {
    await model.dispose();
  }
}

/** llama.cpp's tokens of a text, without those that frame it. */
export function llamaCppTokens(
  modelPath: string,
  texts: readonly string[],
): Promise<{ ids: number[]; text: string }[]> {
  return withModel({ modelPath, vocabOnly: true }, (model) =>
    texts.map((text) => {
      const ids = model.tokenize(text);
      return { ids, text: model.detokenize(ids) };
    }),
  );
}

/** llama.cpp's probabilities of the next token, behind each of `ids`. */
export function llamaCppProbabilities(
  modelPath: string,
  ids: Int32Array,
): Promise<Map<number, number>[]> {
  return withModel({ modelPath }, async (model) => {
    const sequence = (await model.createContext({ contextSize: 256, threads: 1 })).getSequence();
    const results = await sequence.controlledEvaluate(
      Array.from(ids, (id) => [id, { generateNext: { probabilities: true } }]),
    );
    return results.map(({ next }) => next.probabilities);
  });
}
