/** The text of `--help`. */
import { evalDefaults } from "./eval-options.js";
import { exitStatuses } from "./exit-status.js";
import { methodSpecs } from "./methods.js";

const statuses = Object.values(exitStatuses)
  .map(({ status, meaning }) => `  ${status}  ${meaning}`)
  .join("\n");

export const helpText = `spindlekv: compress the key-value cache of a transformer

Usage:
  spindlekv apply --method <name> --input <file> --output <file> [--options <json>] [--device <device>]
  spindlekv eval --model <file> [--methods <names>] [--keep <fractions>] [--output <folder>] [--resume] ...
  spindlekv methods              the methods, their options and defaults
  spindlekv --help | --version

apply runs a method on dumped tensors and writes what it keeps.
  --method <name>     ${methodSpecs.map(({ name }) => name).join(", ")}
  --options <json>    an object of the method's options, such as '{"keep":0.2}'
  --input <file>      safetensors: layers.<l>.query, .key and/or .key_rope, .value
  --output <file>     safetensors: layers.<l>.kept, .scores, .budget, .key_reconstructed, ...
  --device <device>   auto (default: CUDA when usable, else the CPU), cpu, cuda, cuda:<n>

eval measures recall and perplexity of methods on a model, against the bytes that they hold.
  --model <file>      GGUF that the example runtime reads
  --methods <names>   such as all, or snapkv,streamingllm:positions=reindexed [${evalDefaults.methods}]
  --keep <fractions>  targets of the native f16 bytes [${evalDefaults.keep}]
  --lengths <tokens>  contexts of the needle prompts [${evalDefaults.lengths}, as far as the model goes]
  --depths <0..1>     places of the asked fact [${evalDefaults.depths}]
  --seeds <numbers>   each gives texts of its own [${evalDefaults.seeds}]
  --prompts <count>   prompts per length, depth and seed [${evalDefaults.prompts}]
  --protocols <list>  question hidden or visible to compression [${evalDefaults.protocols}]
  --texts <count>     held-out texts for perplexity [${evalDefaults.texts}]
  --text <file>       take them from this file instead of the generator
  --experiments <l>   past the trained context, long decoding, or none [${evalDefaults.experiments}]
  --subject <names>   methods to compare with all others at equal bytes [spindlekv]
  --device <device>   as for apply
  --output <folder>   takes eval.html, eval.json and the journal eval.jsonl [${evalDefaults.output}]
  --resume            go on from the journal that is there

Exit status:
${statuses}

Messages of failures go to stderr as "spindlekv: <code>: <message>"; the output file is then as it was before.
docs/cli.md describes both files.
`;
