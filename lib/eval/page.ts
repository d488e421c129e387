/** The HTML page that reports share: nothing is loaded from anywhere, the style is in the page. */
import { escapeText } from "./svg.js";

/**
 * @param facts what was run, name to value
 * @param sections HTML, one behind the other
 */
export function htmlPage(
  title: string,
  facts: Readonly<Record<string, string | number>>,
  sections: readonly string[],
): string {
  const list = Object.entries(facts).map(
    ([name, value]) => `<dt>${escapeText(name)}</dt><dd>${escapeText(String(value))}</dd>`,
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeText(title)}</title>
<style>${style}</style>
<h1>${escapeText(title)}</h1>
<dl>${list.join("")}</dl>
${sections.filter((section) => section !== "").join("\n")}
</html>
`;
}

const style = `
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 920px;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem } h3 { font-size: 1rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem } dd { margin: 0 } dt { color: #666 }
svg { width: 100%; height: auto } svg text { font-size: 12px; fill: currentColor }
svg text.small { font-size: 9.5px; fill: #666 }
.grid { stroke: #e4e4e4 } .axis { stroke: #666 } .frame { fill: #f6f6f6 } .needle { stroke: #c00 }
.cell { fill: #0b4f8a; stroke: #ccc; stroke-width: 0.6 }
pre { overflow-x: auto; font-size: 12px; line-height: 1.4 }
`;
