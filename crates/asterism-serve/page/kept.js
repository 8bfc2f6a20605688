// Values that outlive a reload and the part of the page that shows them: what was asked, what is
// being typed. They are kept in this tab's session storage; what the server knows is not kept here.

import { useEffect, useReducer } from "./vendor/htm-preact.js";

const PREFIX = "asterism.kept.";
const values = new Map();
const listeners = new Map();
const changed = new Set();
// Values that storage had no room for: closing the tab would lose them.
const homeless = new Set();
let timer = null;

function save() {
  clearTimeout(timer);
  timer = null;
  for (const key of changed) {
    const value = values.get(key);
    try {
      if (value === undefined) sessionStorage.removeItem(PREFIX + key);
      else sessionStorage.setItem(PREFIX + key, JSON.stringify(value));
      homeless.delete(key);
    } catch {
      sessionStorage.removeItem(PREFIX + key);
      homeless.add(key);
    }
  }
  changed.clear();
}

addEventListener("pagehide", save);
addEventListener("beforeunload", (event) => {
  save();
  if (homeless.size) event.preventDefault();
});

export function read(key, initial) {
  if (!values.has(key)) {
    const text = sessionStorage.getItem(PREFIX + key);
    values.set(key, text === null ? undefined : JSON.parse(text));
  }
  return values.get(key) ?? initial;
}

// `next` is a value, or a function from the present value to it; undefined forgets.
export function write(key, next, initial) {
  const value = typeof next === "function" ? next(read(key, initial)) : next;
  values.set(key, value);
  changed.add(key);
  timer ??= setTimeout(save, 300);
  for (const listener of listeners.get(key) ?? []) listener();
}

// A state hook for the value of `key`.
export function useKept(key, initial) {
  const [, redraw] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    const set = listeners.get(key) ?? new Set();
    listeners.set(key, set.add(redraw));
    return () => set.delete(redraw);
  }, [key]);
  return [read(key, initial), (next) => write(key, next, initial)];
}
