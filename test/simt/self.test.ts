// The SIMT backend's own tests are a C++ program beside the backend; this runs it and reports it.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = process.env.SPINDLEKV_BACKEND_DIR ?? join(root, "build", "Release");
const program = join(folder, "spindlekv_simt_test");

it("simt: the execution model passes its own tests", { timeout: 300_000 }, ({ task, skip }) => {
  task.meta.backend = "simt";
  if (process.env.SPINDLEKV_REQUIRE_SIMT !== "1" && !existsSync(program)) skip("simt is not built");
  const { status, stdout, stderr } = spawnSync(program, { encoding: "utf8" });
  expect(status, `${stdout}\n${stderr}`).toBe(0);
  task.meta.cases = Number(/^(\d+) tests, 0 failed$/m.exec(stdout)?.[1]);
  expect(task.meta.cases).toBeGreaterThan(0);
});
