// The state of a widget without a kernel: the part of anywidget's model that a view uses.

type Changed = () => void;

export class Traits {
  #values: Record<string, unknown>;
  #listeners = new Map<string, Set<Changed>>();

  constructor(values: Record<string, unknown>) {
    this.#values = { ...values };
  }

  get(name: string): unknown {
    return this.#values[name];
  }

  set(name: string, value: unknown) {
    if (this.#values[name] === value) return;
    this.#values[name] = value;
    for (const changed of this.#listeners.get(`change:${name}`) ?? []) changed();
  }

  save_changes() {}

  on(event: string, changed: Changed) {
    const known = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, known.add(changed));
  }

  off(event: string, changed: Changed) {
    this.#listeners.get(event)?.delete(changed);
  }
}
