// Lists that are updated in place, so that focus, selection and hovering survive several updates
// per second.

/** An element of a list, and the function that shows an item in it. */
export interface Row<Item> {
  node: HTMLElement;
  update: (item: Item) => void;
}

/** Sets an attribute if it differs; undefined removes it. */
export function mark(node: Element, name: string, value: string | undefined): void {
  if (value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export class Rows<Item> {
  private rows = new Map<string, Row<Item>>();

  constructor(
    private readonly list: HTMLElement,
    private readonly key: (item: Item) => string,
    private readonly create: (item: Item) => Row<Item>,
  ) {}

  /** Shows the items in order; rows keep their elements as long as their keys are present. */
  update(items: readonly Item[]): void {
    const kept = new Map<string, Row<Item>>();
    for (const item of items) {
      const key = this.key(item);
      if (!kept.has(key)) kept.set(key, this.rows.get(key) ?? this.create(item));
      kept.get(key)!.update(item);
    }
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    for (const [key, row] of this.rows) if (!kept.has(key)) row.node.remove();
    this.rows = kept;
    // Only misplaced elements move, since moving one loses the focus.
    let next = this.list.firstElementChild;
    for (const { node } of kept.values()) {
      if (node === next) next = next.nextElementSibling;
      else this.list.insertBefore(node, next);
    }
    if (focused instanceof HTMLElement && focused.isConnected && focused !== document.activeElement) {
      focused.focus({ preventScroll: true });
    }
  }
}
