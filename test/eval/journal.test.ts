import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openJournal } from "../../lib/eval/journal.ts";

const folder = mkdtempSync(join(tmpdir(), "spindlekv-journal-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const freshPath = () => join(folder, `${files++}.jsonl`);
const settings = { keeps: [0.5, 0.2], device: "cpu" };

describe("a journal", () => {
  it("gives back what was added, by kind and in order, after it was opened again", () => {
    const path = freshPath();
    const first = openJournal(path, settings, false);
    first.add("needle", "0/a", { recall: 1 });
    first.add("text", "0/a", { loss: 0.5 });
    first.add("needle", "1/a", { recall: 0 });
    const second = openJournal(path, settings, true);
    expect(second.all("needle")).toEqual([{ recall: 1 }, { recall: 0 }]);
    expect(second.has("text", "0/a")).toBe(true);
    expect(second.has("text", "1/a")).toBe(false);
    second.add("text", "1/a", { loss: 0.25 });
    expect(openJournal(path, settings, true).all("text")).toEqual([{ loss: 0.5 }, { loss: 0.25 }]);
  });

  it("starts afresh where there is none, resumed or not", () => {
    for (const isResumed of [false, true]) {
      expect(openJournal(freshPath(), settings, isResumed).all("needle")).toEqual([]);
    }
  });

  it("drops a last line that was cut off, and goes on behind the one before", () => {
    const path = freshPath();
    openJournal(path, settings, false).add("text", "0", { word: "päckchen" });
    appendFileSync(path, '{"kind":"text","key":"1","val');
    const journal = openJournal(path, settings, true);
    expect(journal.all("text")).toEqual([{ word: "päckchen" }]);
    journal.add("text", "2", 2);
    const lines = readFileSync(path, "utf8").trimEnd().split("\n");
    expect(lines).toHaveLength(3);
    expect(lines.map((line) => JSON.parse(line).key)).toEqual([undefined, "0", "2"]);
  });

  it("is not overwritten by a run that did not ask to resume", () => {
    const path = freshPath();
    openJournal(path, settings, false);
    expect(() => openJournal(path, settings, false)).toThrow(
      /expected --resume or another folder for output, got .* of a run before/,
    );
  });

  it.each([
    [{ ...settings, keeps: [0.5] }, "keeps", "[0.5,0.2]", "[0.5]"],
    [{ keeps: settings.keeps }, "device", '"cpu"', "undefined"],
    [{ ...settings, seeds: [1] }, "seeds", "undefined", "[1]"],
  ])("of other settings is refused by name: %j", (now, name, was, is) => {
    const path = freshPath();
    openJournal(path, settings, false).add("text", "0", 1);
    const before = readFileSync(path, "utf8");
    const open = () => openJournal(path, now, true);
    expect(open).toThrow(`for ${name}, that is ${was}, got ${is}`);
    expect(open).toThrow(expect.objectContaining({ code: "ERR_SPINDLEKV_ARGUMENT" }));
    expect(readFileSync(path, "utf8")).toBe(before);
  });

  it.each(["not json\n", '{"other":1}\n', ""])("that is none is refused: %j", (text) => {
    const path = freshPath();
    writeFileSync(path, text);
    expect(() => openJournal(path, settings, true)).toThrow(
      expect.objectContaining({ code: "ERR_SPINDLEKV_FILE" }),
    );
  });
});
