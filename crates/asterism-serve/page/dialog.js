// A modal dialog, an error in the server's words, and what a screen reader is told.

import { html, useEffect, useRef } from "./vendor/htm-preact.js";

// A dialog that is open as long as it is drawn. The browser keeps the focus inside, and gives it
// back when the dialog is closed. `onClose` is called on Escape too.
export function Dialog({ title, onClose, wide = false, children }) {
  const ref = useRef();
  useEffect(() => {
    const dialog = ref.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`
    <dialog ref=${ref} class=${wide ? "wide" : ""} aria-labelledby="dialog-title" onCancel=${cancel}>
      <header>
        <h2 id="dialog-title">${title}</h2>
        <button class="quiet" type="button" aria-label="Close" onClick=${onClose}>✕</button>
      </header>
      ${children}
    </dialog>`;
}

// `action` is an optional button: {label, run}.
export function Failure({ error, action }) {
  if (!error) return null;
  const notes = [error.code, error.param && `field “${error.param}”`].filter(Boolean).join(", ");
  return html`
    <div class="failure" role="alert">
      <p>${error.message}${notes && html` <small>(${notes})</small>`}</p>
      ${action && html`<button type="button" onClick=${action.run}>${action.label}</button>`}
    </div>`;
}

// One polite live region for the page. Streams are not read out piece by piece: what is said is
// that an answer began, and the whole of it at its end.
export function announce(text) {
  const region = document.getElementById("announcements");
  if (!region) return;
  region.textContent = "";
  setTimeout(() => { region.textContent = text; }, 50);
}
