// Builds test/contract/fake-backend.cc into a folder that SPINDLEKV_BACKEND_DIR can name.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const sourceFile = "test/contract/fake-backend.cc";
const source = join(root, sourceFile);
const hashedFiles = [
  sourceFile,
  ...["backend", "ops", "status", "types"].map((name) => `core/${name}.h`),
];

/** The folder with the library, named as the CUDA backend; `defines` are macros of the source. */
export function fakeBackendFolder(defines: readonly string[] = []): string {
  const hash = createHash("sha256").update(defines.join());
  for (const file of hashedFiles) {
    hash.update(readFileSync(join(root, file)));
  }
  const folder = join(root, "build/fake-backend", hash.digest("hex").slice(0, 16));
  const library = join(folder, "libspindlekv_cuda.so");
  if (existsSync(library)) return folder;
  mkdirSync(folder, { recursive: true });
  // Under a name of its own until it is whole: several test files may build at once.
  const partial = `${library}.${process.pid}`;
  const flags = ["-std=c++20", "-O1", "-shared", "-fPIC", `-I${root}`, "-o", partial, source];
  const compiler = process.env.CXX ?? "g++";
  const run = spawnSync(compiler, [...defines.map((name) => `-D${name}`), ...flags], {
    encoding: "utf8",
  });
  if (run.status !== 0) throw new Error(`${compiler}: ${run.error?.message ?? run.stderr}`);
  renameSync(partial, library);
  return folder;
}

/** Runs `body` while the backends are looked for in `folder`. */
export async function withBackends<T>(folder: string, body: () => Promise<T>): Promise<T> {
  const before = process.env.SPINDLEKV_BACKEND_DIR;
  process.env.SPINDLEKV_BACKEND_DIR = folder;
  try {
    return await body();
  } finally {
    if (before === undefined) delete process.env.SPINDLEKV_BACKEND_DIR;
    else process.env.SPINDLEKV_BACKEND_DIR = before;
  }
}
