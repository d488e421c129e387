/**
 * Other people's code that does the same work: a Python script of bench/peers/ in a process of its own, timed side
 * by side with ours. Nothing depends on it: where its packages are not installed, there is nothing to compare with.
 */
import { join } from "node:path";
import type { Contestant } from "./interleave.ts";
import { LineProcess } from "./line-process.ts";

/** Which Python has the packages. */
export const kPythonVariable = "SPINDLEKV_PEER_PYTHON";

/** Sizes by name, as the script's `prepare` takes them. */
export type PeerSizes = Readonly<Record<string, number | string>>;

/** Why a peer cannot be timed. */
export interface MissingPeer {
  /** The package that is not installed, or the interpreter. */
  readonly missing: string;
}

type Hello = { readonly versions: Record<string, string> } | MissingPeer;

/** A running peer. */
export class Peer {
  /** The package whose code it is. */
  readonly package: string;
  readonly versions: Readonly<Record<string, string>>;
  arms: readonly string[] = [];
  readonly #process: LineProcess;

  private constructor(started: LineProcess, versions: Readonly<Record<string, string>>) {
    this.#process = started;
    this.versions = versions;
    this.package = Object.keys(versions).find((name) => name !== "Python")!;
  }

  /**
   * Starts `bench/peers/<script>`.
   *
   * @param threads how many it may use
   * @throws Error when it fails for another reason than a missing package
   */
  static async start(root: string, script: string, threads: number): Promise<Peer | MissingPeer> {
    const python = process.env[kPythonVariable] || "python3";
    const words = [join(root, "bench", "peers", script), "--serve", "--threads", String(threads)];
    const env = { ...process.env, ...quietThreads(threads) };
    const started = new LineProcess(python, words, env);
    let hello: Hello;
    try {
      hello = await started.next<Hello>();
    } catch (error) {
      if (/ENOENT/.test((error as Error).message)) return { missing: python };
      throw error;
    }
    if ("missing" in hello) {
      await started.dispose();
      return hello;
    }
    return new Peer(started, hello.versions);
  }

  /** Makes its inputs, in place of those before. */
  async setup(sizes: PeerSizes): Promise<void> {
    const { arms } = await this.#process.ask<{ arms: string[] }>(`setup ${JSON.stringify(sizes)}`);
    this.arms = arms;
  }

  /** One call a round each: a peer is slower, and times itself. */
  contestants(): Contestant[] {
    return this.arms.map((name) => ({
      name,
      most: 1,
      run: async () => (await this.#process.ask<{ seconds: number }>(`run ${name}`)).seconds,
    }));
  }

  dispose(): Promise<void> {
    return this.#process.dispose();
  }
}

/** Threads of OpenMP sleep between calls; by default they spin and take the processor from the other side. */
function quietThreads(threads: number): Record<string, string> {
  return {
    OMP_NUM_THREADS: String(threads),
    MKL_NUM_THREADS: String(threads),
    OPENBLAS_NUM_THREADS: String(threads),
    OMP_WAIT_POLICY: "passive",
    GOMP_SPINCOUNT: "0",
    KMP_BLOCKTIME: "0",
  };
}

/** What a row says in place of a figure. */
export const notInstalled = ({ missing }: MissingPeer) => `peer not installed: ${missing}`;
