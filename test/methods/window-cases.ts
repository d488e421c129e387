// What the methods of the SnapKV family share in their tests: a prompt whose window was asked, compressed, and compared
// slot by slot with the oracle.
import { expect } from "vitest";
import { type CompressReport, KVCache, type Method } from "../../lib/index.ts";
import { feed, makePrompt, type Prompt, type Shape } from "../cache/fixtures.ts";
import { denseValues, type RopeSetting } from "../cache/reference.ts";
import type { Device } from "../harness/api.ts";
import { type WindowMethod, windowMethodKept } from "../oracle/methods.ts";
import type { Selection } from "../oracle/select-topk.ts";
import { expectKept } from "./kept.ts";

export interface WindowCase {
  readonly shape: Shape;
  readonly tokens: number;
  readonly window: number;
  readonly rope?: RopeSetting;
  readonly seed?: number;
}

export interface Compressed extends Disposable {
  readonly cache: KVCache;
  readonly report: CompressReport;
  readonly prompt: Prompt;
  readonly kept: Selection[][];
}

/**
 * Compresses a prompt and checks every head's slots.
 *
 * @param budgets ranked slots of each layer, by the oracle
 */
export async function compressAndCompare(
  device: Device,
  setting: WindowCase,
  method: Method,
  oracle: Omit<WindowMethod, "k">,
  budgets: readonly number[],
  hasMasks = false,
): Promise<Compressed> {
  const { shape, tokens, window, rope, seed = 3 } = setting;
  const prompt = makePrompt(shape, tokens, { seed });
  const cache = new KVCache(device, {
    ...shape,
    method,
    preRopeKeys: true,
    ...(rope === undefined ? {} : { rope }),
  });
  try {
    await feed(cache, prompt, { attended: Math.min(window + 3, tokens) });
    const report = await cache.compress();
    expect(report.plan).toEqual([...budgets]);
    const kept: Selection[][] = [];
    for (const [layer, k] of budgets.entries()) {
      const values = denseValues(prompt, {
        layer,
        from: tokens - window,
        to: tokens,
        ...(rope === undefined ? {} : { rope }),
      });
      kept.push(windowMethodKept(values, { ...oracle, k }));
      await expectKept(cache, layer, kept[layer], hasMasks);
    }
    return { cache, report, prompt, kept, [Symbol.dispose]: () => cache.dispose() };
  } catch (error) {
    cache.dispose();
    throw error;
  }
}
