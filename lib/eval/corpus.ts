/**
 * Word lists and sentence forms of the recall model's text: a narrative haystack of short sentences,
 * facts ("The password of Nora is amber.") and questions about them. The same lists and grammar as
 * test/model/corpus.py, which made the training text; the generator and so the texts are others.
 */
import type { Random } from "./random.js";

const words = (text: string): readonly string[] => text.trim().split(/\s+/);

/** People a fact can be about; a document uses each name for at most one fact. */
export const names = words(`
    Nora Oscar Priya Quinn Rosa Silas Tara Umar Vera Walter Xenia Yusuf Zelda Amara Boris Clara
    Dmitri Elena Farid Greta Hugo Ines Jonas Keiko Liam Mira Nadia Olaf Petra Rafael Sonia Tomas
    Ursula Viktor Wanda Yara Zane Alma Bruno Celia Diego Edith Felix Gloria Henrik Irene Jasper
    Kamal Lena Marco Nina Otto Paula Rashid Stella Theo Una Vince Willa Ximena Yvonne Zora Anton
    Bella
`);

/** What a fact's value can be. */
export const answers = words(`
    amber falcon copper meadow violet anchor granite willow saffron comet marble thistle ember
    cobalt juniper raven velvet canyon ivory pepper lagoon cedar onyx maple tundra coral quartz
    sparrow ginger hazel indigo jasmine lemon magnet nectar olive pearl quiver ripple sable
    topaz umber vapor walnut yarrow zephyr acorn basalt cinder dahlia elder fennel garnet harbor
    island jacket kernel lilac mango nutmeg orchid plum quill rowan
`);

/** What a fact can be about. */
export const attributes = [
  "password",
  "favourite word",
  "secret",
  "code word",
  "nickname",
  "answer",
];

const places = [
  "the harbour",
  "the old mill",
  "the northern station",
  "the glass house",
  "a quiet village",
  "the river bank",
  "the market square",
  "the observatory",
  "the lower town",
  "a stone bridge",
  "the winter garden",
  "the archive",
  "the lighthouse",
  "the eastern gate",
  "a narrow valley",
  "the clock tower",
  "the print shop",
  "the orchard",
];
const moments = [
  "In the morning",
  "After the rain",
  "Before dawn",
  "On the third day",
  "Late in autumn",
  "At noon",
  "During the festival",
  "When the bells rang",
  "As the fog lifted",
  "Toward evening",
  "One cold night",
  "By the end of the week",
];
const moods = [
  "and nobody noticed",
  "and the neighbours were pleased",
  "although the road was long",
  "because the wind had turned",
  "and the dog followed",
  "while the kettle boiled",
  "and then went home",
  "as if nothing had happened",
  "which surprised everyone",
  "and wrote it down",
];
const things = words(`
    lantern map letter violin kettle compass ledger basket mirror telescope blanket hammer
    notebook bicycle candle drum feather ladder parcel ribbon saddle teapot umbrella wagon
`);
const adjectives = words(`
    small heavy painted broken silver wooden forgotten bright dusty folded round blue crimson
    ordinary
`);
const verbs = words(`
    carried found repaired borrowed hid sold measured polished painted lost described returned
`);

/** One sentence of the haystack. */
export function sentence(random: Random): string {
  const form = random.below(4);
  const name = random.pick(names);
  const place = random.pick(places);
  const thing = random.pick(things);
  const adjective = random.pick(adjectives);
  const verb = random.pick(verbs);
  switch (form) {
    case 0:
      return `${random.pick(moments)}, ${name} ${verb} a ${adjective} ${thing} near ${place}.`;
    case 1:
      return `${name} ${verb} the ${thing} at ${place} ${random.pick(moods)}.`;
    case 2:
      return `There was a ${adjective} ${thing} beside ${place}, ${random.pick(moods)}.`;
    default:
      return (
        `${random.pick(moments)}, ${name} and ${random.pick(names)} walked to ${place} ` +
        `with a ${adjective} ${thing}.`
      );
  }
}

/** The sentence that states a fact. */
export function fact(attribute: string, name: string, answer: string): string {
  return `The ${attribute} of ${name} is ${answer}.`;
}

/** The question about a fact; the answer follows after a space. */
export function question(attribute: string, name: string): string {
  return `Question: the ${attribute} of ${name} is`;
}
