/** The text of `--help`. */
import { exitStatuses } from "./exit-status.js";
import { methodSpecs } from "./methods.js";

const statuses = Object.values(exitStatuses)
  .map(({ status, meaning }) => `  ${status}  ${meaning}`)
  .join("\n");

export const helpText = `spindlekv: compress the key-value cache of a transformer

Usage:
  spindlekv apply --method <name> --input <file> --output <file> [--options <json>] [--device <device>]
  spindlekv methods              the methods, their options and defaults
  spindlekv --help | --version

apply runs a method on dumped tensors and writes what it keeps.
  --method <name>     ${methodSpecs.map(({ name }) => name).join(", ")}
  --options <json>    an object of the method's options, such as '{"keep":0.2}'
  --input <file>      safetensors: layers.<l>.query, .key and/or .key_rope, .value
  --output <file>     safetensors: layers.<l>.kept, .scores, .budget, .key_reconstructed, ...
  --device <device>   auto (default: CUDA when usable, else the CPU), cpu, cuda, cuda:<n>

Exit status:
${statuses}

Messages of failures go to stderr as "spindlekv: <code>: <message>"; the output file is then as it was before.
docs/cli.md describes both files.
`;
