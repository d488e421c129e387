/** The few drawing words that the plots share: elements, escaping, colours, scales. */

/** Colours that most colour-blind people can tell apart (Okabe and Ito 2008), without its yellow. */
const palette = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#e69f00",
  "#5f5f5f",
  "#000000",
];

const dashes = ["none", "6 3", "2 3", "9 3 2 3"];

/** The colour of the `index`-th method, the same in every plot. */
export function colour(index: number): string {
  return palette[index % palette.length];
}

/** Dashes of the `index`-th method's line: they tell apart those that share a colour. */
export function dash(index: number): string {
  return dashes[Math.floor(index / palette.length) % dashes.length];
}

/** Text for XML and HTML. */
export function escapeText(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return text.replace(/[&<>"]/g, (character) => names[character]);
}

type Attributes = Record<string, string | number>;

/** `<name attributes>children</name>`; numbers are shortened to two decimals. */
export function element(name: string, attributes: Attributes, ...children: string[]): string {
  const list = Object.entries(attributes).map(([key, value]) => {
    const shown =
      typeof value === "number" ? String(Math.round(value * 100) / 100) : escapeText(value);
    return ` ${key}="${shown}"`;
  });
  return `<${name}${list.join("")}>${children.join("")}</${name}>`;
}

/** Escaped text at a place. */
export function label(x: number, y: number, text: string, more: Attributes = {}): string {
  return element("text", { x, y, ...more }, escapeText(text));
}

export function line(
  x1: number,
  y1: number,
  x2: number,
  y2: number,
  more: Attributes = {},
): string {
  return element("line", { x1, y1, x2, y2, ...more });
}

/** Maps [from, to] to [a, b]. */
export function linear(from: number, to: number, a: number, b: number): (value: number) => number {
  return (value) => a + ((value - from) / (to - from)) * (b - a);
}

/** The whole drawing; `title` is what a screen reader says. */
export function drawing(width: number, height: number, title: string, parts: string[]): string {
  const attributes = { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title };
  return element("svg", { xmlns: "http://www.w3.org/2000/svg", ...attributes }, ...parts);
}
