/**
 * Which tokens of one prompt each method kept: an image with a row per layer and KV head, first layer on
 * top, and a column per position. A mark is a position that is still in the cache.
 */
import { nameOf } from "./choices.js";
import { type CacheContents, parseRuns } from "./contents.js";
import { drawing, element, label, line, linear } from "./svg.js";

const image = { left: 10, width: 840, row: 4, gap: 2, title: 34 };

/**
 * @param contents of one prompt, one per method
 * @param colourOf colour of a method
 * @param depth where the asked fact is, 0 to 1
 */
export function keptMap(
  contents: readonly CacheContents[],
  colourOf: (method: string) => string,
  depth: number,
): string {
  let top = 0;
  const images = contents.map((each) => {
    const drawn = methodImage(each, colourOf(each.method), depth, top);
    top +=
      image.title + each.layers.length * ((each.layers[0]?.length ?? 0) * image.row + image.gap);
    return drawn;
  });
  return drawing(
    image.left + image.width + 10,
    top + 6,
    "Kept tokens of one prompt, by method",
    images,
  );
}

function methodImage(
  { method, keep, tokens, layers }: CacheContents,
  stroke: string,
  depth: number,
  top: number,
): string {
  const x = linear(0, tokens, image.left, image.left + image.width);
  const slots = layers.flat().reduce((sum, head) => sum + head.slots, 0);
  const all = layers.flat().length * tokens;
  let y = top + image.title - 8;
  const start = y;
  const rows = layers.map((heads, layer) => {
    const drawn = heads.map(({ kept, slots: own }, head) => {
      const middle = y + image.row / 2;
      y += image.row;
      const marks = parseRuns(kept).map(
        ({ first, length }) =>
          `M${x(first).toFixed(1)} ${middle}H${Math.max(x(first + length), x(first) + 0.4).toFixed(1)}`,
      );
      const hint = `${method}, layer ${layer}, head ${head}: ${own} of ${tokens}`;
      const look = { d: marks.join("") || "M0 0", stroke, "stroke-width": image.row - 0.6 };
      return element("path", look, element("title", {}, hint));
    });
    y += image.gap;
    return drawn.join("");
  });
  const at = x(depth * tokens);
  const frame = { x: image.left, y: start, width: image.width, height: y - start, class: "frame" };
  return [
    element("rect", frame),
    label(image.left, start - 6, nameOf({ method, keep })),
    label(image.left + image.width, start - 6, `${slots} of ${all} slots`, {
      class: "small",
      "text-anchor": "end",
    }),
    line(at, start - 4, at, y + 1, { class: "needle" }),
    ...rows,
  ].join("");
}
