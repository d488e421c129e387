import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kPythonVariable, Peer } from "../../bench/harness/peer.ts";

const kPeers = join(import.meta.dirname, "..", "..", "bench", "peers");

/** A peer of the standard library alone, so that the protocol is tested wherever there is a Python. */
const kExample = `
import sys
sys.path.insert(0, ${JSON.stringify(kPeers)})
import serve

def prepare(sizes):
    def call(number):
        return sizes["seconds"] * (number + 1)
    return {"known": call, "timed": lambda number: None}

if __name__ == "__main__":
    sys.exit(serve.main("example", {"json": "pip"}, {"seconds": 0.5, "name": "x"}, prepare))
`;

const hasPython = (() => {
  try {
    execFileSync("python3", ["-m", "pip", "--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "spindlekv-peer-"));
  mkdirSync(join(root, "bench", "peers"), { recursive: true });
  const scripts = {
    "example.py": kExample,
    "absent.py": kExample.replace('{"json": "pip"}', '{"no_such_module_here": "no-such-package"}'),
    "broken.py": 'import sys\nsys.exit("it broke")\n',
    "refusing.py": kExample.replace(
      "    def call",
      '    raise SystemExit("sizes refused")\n    def call',
    ),
  };
  for (const [name, text] of Object.entries(scripts)) {
    writeFileSync(join(root, "bench", "peers", name), text);
  }
});
afterAll(() => rmSync(root, { recursive: true }));

async function started(script: string): Promise<Peer> {
  const peer = await Peer.start(root, script, 1);
  if (!(peer instanceof Peer)) throw new Error(`expected ${script} to start, got ${peer.missing}`);
  return peer;
}

describe.skipIf(!hasPython)("a peer", () => {
  it("says its versions and arms, and takes its own time", async () => {
    const peer = await started("example.py");
    expect(peer.package).toBe("pip");
    expect(Object.keys(peer.versions)).toEqual(["Python", "pip"]);
    await peer.setup({ seconds: 2 });
    expect(peer.arms).toEqual(["known", "timed"]);
    const [known, timed] = peer.contestants();
    expect([await known.run(), await known.run()]).toEqual([2, 4]);
    expect(await timed.run()).toBeLessThan(1);
    await peer.setup({}); // sizes left out keep their defaults
    expect(await peer.contestants()[0].run()).toBe(2);
    await peer.dispose();
  });

  it("is missing, by name, where its package is not installed", async () => {
    expect(await Peer.start(root, "absent.py", 1)).toEqual({ missing: "no-such-package" });
  });

  it("fails with what it printed for any other reason", async () => {
    await expect(Peer.start(root, "broken.py", 1)).rejects.toThrow("it broke");
    const peer = await started("refusing.py");
    await expect(peer.setup({})).rejects.toThrow("sizes refused");
    await expect(peer.setup({})).rejects.toThrow("sizes refused");
  });
});

describe("without a Python", () => {
  it("the interpreter is what is missing", async () => {
    const before = process.env[kPythonVariable];
    process.env[kPythonVariable] = "no-such-interpreter";
    try {
      expect(await Peer.start(root, "example.py", 1)).toEqual({ missing: "no-such-interpreter" });
    } finally {
      if (before === undefined) delete process.env[kPythonVariable];
      else process.env[kPythonVariable] = before;
    }
  });
});
