/** Elements without a framework. Text goes in as text nodes only: nothing here parses markup. */

/** The element with that id; a page without it is a broken build, so this throws. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as E;
}

type Attributes = Readonly<Record<string, string | number | boolean | null | undefined>>;
type Child = Node | string | null | undefined | false;

/** Makes an element. `true` writes an empty attribute; `false`, `null` and `undefined` write none. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Sets text only when it differs, so that live regions do not repeat themselves. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export interface Figure {
  readonly key: string;
  readonly label: string;
  readonly value: string;
  readonly bad?: boolean;
  readonly hint?: string;
}

/** Shows figures in a `dl`, keeping the elements of those that stay. Each `dd` is found by `data-stat`. */
export function showFigures(list: HTMLElement, figures: readonly Figure[]): void {
  const old = new Map(Array.from(list.children, (row) => [(row as HTMLElement).dataset["key"] ?? "", row]));
  const keys = new Set(figures.map(({ key }) => key));
  for (const [key, row] of old) if (!keys.has(key)) row.remove();
  for (const { key, label, value, bad = false, hint } of figures) {
    let row = old.get(key);
    if (!row) {
      row = h("div", { "data-key": key }, h("dt", { title: hint }, label), h("dd", { "data-stat": key }));
      list.append(row);
    }
    const figure = row.lastElementChild;
    if (!figure) continue;
    setText(figure, value);
    figure.classList.toggle("bad", bad);
  }
}

let toastTimer: ReturnType<typeof setTimeout> | undefined;

/** Says something for three seconds, to eyes and to screen readers. */
export function toast(text: string): void {
  const element = byId("toast");
  element.textContent = text;
  element.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => element.classList.remove("shown"), 3_000);
}

/** A labelled value with a button that copies it. */
export function copyable(label: string, value: string, testId: string): HTMLElement {
  const button = h("button", { type: "button", class: "button small", "aria-label": `Copy ${label}` }, "Copy");
  button.addEventListener("click", () => void copy(value, button));
  return h(
    "div",
    { class: "copy" },
    h("span", { class: "label" }, label),
    h("code", { "data-testid": testId }, value),
    button,
  );
}

async function copy(value: string, button: HTMLButtonElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(value);
    setText(button, "Copied");
    toast("Copied");
    setTimeout(() => setText(button, "Copy"), 1_500);
  } catch {
    // No clipboard without https: the value is marked, so that the keyboard can copy it.
    const code = button.parentElement?.querySelector("code");
    if (code) getSelection()?.selectAllChildren(code);
    toast("Press Ctrl+C or ⌘C to copy");
  }
}
