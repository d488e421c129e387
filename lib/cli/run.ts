/** The command line without a process: arguments in, text out, exit status back. */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { DeviceName } from "../device.js";
import { argumentError, spindleError } from "../errors.js";
import type { ProgressStream } from "../eval/index.js";
import { type ApplyRequest, apply } from "./apply.js";
import { evaluate } from "./eval.js";
import { evalRequest } from "./eval-options.js";
import { endingOf, exitStatuses } from "./exit-status.js";
import { helpText } from "./help.js";
import { listMethods } from "./methods.js";

/** Where text goes. */
export interface Streams {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: ProgressStream;
}

/**
 * Runs the command.
 *
 * @param argv arguments after the program's name
 * @returns the exit status; never rejects
 */
export async function run(argv: readonly string[], streams: Streams): Promise<number> {
  try {
    streams.stdout.write(await answer(argv, streams));
    return exitStatuses.ok.status;
  } catch (error) {
    const { status, code } = endingOf(error);
    const message = error instanceof Error ? error.message : String(error);
    streams.stderr.write(`spindlekv: ${code}: ${message}\n`);
    return status;
  }
}

async function answer(argv: readonly string[], { stderr }: Streams): Promise<string> {
  // Its flags are its own.
  if (argv[0] === "eval" && !argv.includes("--help")) {
    return `${await evaluate(evalRequest(argv.slice(1)), stderr)}\n`;
  }
  const { values, positionals } = parse(argv);
  if (values.help) return helpText;
  if (values.version) return `${version()}\n`;
  const [command, ...more] = positionals;
  if (more.length > 0) throw argumentError("spindlekv", "one command", "arguments", more);
  if (command === "methods") return listMethods();
  if (command === "apply") return `${await apply(requestOf(values))}\n`;
  throw argumentError("spindlekv", "apply, eval, methods, --help or --version", "command", command);
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        method: { type: "string" },
        options: { type: "string", default: "{}" },
        input: { type: "string" },
        output: { type: "string" },
        device: { type: "string", default: "auto" },
        help: { type: "boolean", short: "h", default: false },
        version: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw spindleError("ERR_SPINDLEKV_ARGUMENT", "spindlekv", (error as Error).message, error);
  }
}

interface Flags {
  readonly method?: string | undefined;
  readonly options: string;
  readonly input?: string | undefined;
  readonly output?: string | undefined;
  readonly device: string;
}

function requestOf({ method, options, input, output, device }: Flags): ApplyRequest {
  if (!method) throw argumentError("apply", "a method name after --method", "method", method);
  if (!input) throw argumentError("apply", "a file name after --input", "input", input);
  if (!output) throw argumentError("apply", "a file name after --output", "output", output);
  if (!/^(auto|cpu|cuda(:\d{1,4})?)$/.test(device)) {
    throw argumentError("apply", "auto, cpu, cuda or cuda:<n>", "device", device);
  }
  const named = device === "auto" ? undefined : (device as DeviceName);
  return { method, options, input, output, device: named };
}

/** The package's: its package.json lies two folders above this file and above the bundled command alike. */
function version(): string {
  const manifest = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}
