/** A program beside this one that answers requests, a line each, so that both are timed in turn. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

type Waiting = { resolve: (line: string) => void; reject: (error: Error) => void };

/** A started program; `dispose()` ends it by closing its stdin. */
export class LineProcess {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #closed: Promise<void>;
  #waiting: Waiting | undefined;
  #unread: string[] = [];
  #failure: Error | undefined;
  #errors = "";

  constructor(command: string, words: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.#name = words[0] === undefined ? command : `${command} ${words[0]}`;
    this.#child = spawn(command, words, { env, stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stdin!.on("error", () => {}); // it ended: "close" says why
    this.#child.stderr!.on("data", (text) => {
      this.#errors += text;
    });
    const lines = createInterface({ input: this.#child.stdout! });
    lines.on("line", (line) => {
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting === undefined) this.#unread.push(line);
      else waiting.resolve(line);
    });
    this.#closed = new Promise((resolve) => {
      const end = (reason: string) => {
        this.#failure ??= new Error(`${this.#name}: ${reason} ${this.#errors.trim()}`.trim());
        this.#waiting?.reject(this.#failure);
        this.#waiting = undefined;
        resolve();
      };
      this.#child.on("error", (error) => end(error.message));
      // The last lines come before "close".
      this.#child.on("close", (code, signal) => end(`ended with ${signal ?? code}.`));
    });
  }

  /** The next line that it prints, parsed. @throws Error when it ends before */
  async next<T>(): Promise<T> {
    const unread = this.#unread.shift();
    if (unread !== undefined) return JSON.parse(unread) as T;
    if (this.#failure !== undefined) throw this.#failure;
    const line = await new Promise<string>((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
    return JSON.parse(line) as T;
  }

  /** The answer to a request. @throws Error when it ends before */
  ask<T>(request: string): Promise<T> {
    this.#child.stdin!.write(`${request}\n`);
    return this.next<T>();
  }

  async dispose(): Promise<void> {
    this.#child.stdin!.end();
    await this.#closed;
  }
}
