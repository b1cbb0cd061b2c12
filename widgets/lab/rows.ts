// Lists that are brought up to date in place, so that focus, selection and hovering survive
// several updates a second.

/** One element of a list, and how it follows its item. */
export interface Row<Item> {
  node: HTMLElement;
  update: (item: Item) => void;
}

/** Sets a text where it differs, which keeps what the user selected in it. */
export function say(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute where it differs; undefined takes it away. */
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

  /** Shows these items in this order; a row stays the same element as long as its key is there. */
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
    // Only what is out of place moves: an element that moves loses the focus.
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
