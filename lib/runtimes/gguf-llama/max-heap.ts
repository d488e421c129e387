/** A priority queue: a binary heap in an array, the child of i at 2i + 1 and 2i + 2. */
export class MaxHeap<Item> {
  private readonly items: Item[] = [];
  private readonly isBefore: (a: Item, b: Item) => boolean;

  /** @param isBefore whether a comes out before b */
  constructor(isBefore: (a: Item, b: Item) => boolean) {
    this.isBefore = isBefore;
  }

  push(item: Item): void {
    const { items, isBefore } = this;
    let at = items.length;
    for (; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (!isBefore(item, items[parent])) break;
      items[at] = items[parent];
      at = parent;
    }
    items[at] = item;
  }

  /** Takes the first item out; undefined when there is none. */
  pop(): Item | undefined {
    const { items, isBefore } = this;
    const first = items[0];
    const moved = items.pop();
    if (moved === undefined || items.length === 0) return first;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && isBefore(items[child + 1], items[child])) child++;
      if (!isBefore(items[child], moved)) break;
      items[at] = items[child];
      at = child;
    }
    items[at] = moved;
    return first;
  }
}
