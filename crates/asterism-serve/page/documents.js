// The documents of a context: read, edit, add, remove. Only the blocks that change are encoded
// again; the strip above shows which, and why.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { call, contextPath } from "./api.js";
import { Dialog, Failure, announce } from "./dialog.js";
import { freeName, readDocuments } from "./files.js";
import { indexOfCharacter, many } from "./format.js";
import { useKept } from "./kept.js";
import { isComing, refresh, setOpen, watchEdit } from "./state.js";
import { summary } from "./strip.js";

// What is being edited, kept over reloads: {name, text (as edited; absent until it is loaded), at
// (the character to show first), fresh (a document that is not there yet)}.
export function Documents({ context }) {
  const [edit, setEdit] = useKept(`edit:${context.id}`, null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const [unwanted, setUnwanted] = useState(null);
  const input = useRef();
  const encoding = isComing(context);

  const change = async (method, name, body) => {
    setBusy(true);
    setError(null);
    try {
      const edit = call(method, contextPath(context.id, "documents", name), { body });
      watchEdit(context.id, edit);
      const next = await edit;
      setOpen(next);
      setEdit(null);
      announce(next.status === "ready" ? summary(next, true) : "Encoding what changed.");
      refresh();
    } catch (failure) {
      setError(failure);
    }
    setUnwanted(null);
    setBusy(false);
  };

  const names = () => new Set(context.documents.map((document) => document.name));
  const chosen = async () => {
    const files = [...input.current.files].map((file) => ({ name: file.name, file }));
    input.current.value = "";
    const { documents, refused } = await readDocuments(files, []);
    if (refused.length) setError({ message: refused.join(" ") });
    // A file with a document's name is its new version: shown, and saved when that is confirmed.
    else if (documents.length === 1) {
      setEdit({ ...documents[0], fresh: !names().has(documents[0].name), changed: true });
    }
  };

  return html`
    <section class="documents-tab" aria-labelledby="documents-title">
      <h2 id="documents-title" class="sr-only">Documents</h2>
      <${Failure} error=${error} />
      ${edit
        ? html`<${Editor} key=${edit.name} ...${{ context, edit, setEdit, busy }}
            onSave=${(name, text) => change("PUT", name, { text })} />`
        : html`
          <ul class="documents" aria-label="Documents">
            ${context.documents.map(({ name, characters, tokens }) => html`
              <li key=${name}>
                <span class="name">${name}</span>
                <span class="muted">${many(characters, "character")}, ${many(tokens, "token")}</span>
                <button type="button" disabled=${busy || encoding} aria-label="Edit ${name}"
                  onClick=${() => setEdit({ name })}>Edit</button>
                <button type="button" class="quiet" aria-label="Remove ${name}"
                  disabled=${busy || encoding || context.documents.length === 1}
                  onClick=${() => setUnwanted(name)}>✕</button>
              </li>`)}
          </ul>
          <div class="row">
            <button type="button" disabled=${busy || encoding} onClick=${() =>
              setEdit({ name: freeName("new.txt", names()), text: "", fresh: true })}>
              + Write a document</button>
            <input ref=${input} id="add-file" class="hidden" type="file" tabIndex="-1"
              aria-label="File" onChange=${chosen} />
            <button type="button" disabled=${busy || encoding} onClick=${() => input.current.click()}>
              + Add or replace by a file</button>
          </div>`}
      ${unwanted !== null && html`
        <${Dialog} title="Remove ${unwanted}?" onClose=${() => setUnwanted(null)}>
          <p>It is taken out of this context; the blocks behind it may have to be encoded again.</p>
          <div class="row">
            <button type="button" class="danger" disabled=${busy}
              onClick=${() => change("DELETE", unwanted)}>Remove</button>
            <button type="button" onClick=${() => setUnwanted(null)}>Keep it</button>
          </div>
        <//>`}
    </section>`;
}

function Editor({ context, edit, setEdit, busy, onSave }) {
  const [error, setError] = useState(null);
  const area = useRef();
  const [name, setName] = useState(edit.name);
  const loaded = edit.text !== undefined;

  useEffect(() => {
    if (loaded) return undefined;
    const abort = new AbortController();
    call("GET", contextPath(context.id, "documents", edit.name), { signal: abort.signal })
      .then(({ text }) => setEdit({ ...edit, text }), (failure) => abort.signal.aborted || setError(failure));
    return () => abort.abort();
  }, []);

  useEffect(() => {
    const box = area.current;
    if (!loaded) return;
    const at = indexOfCharacter(edit.text, edit.at ?? 0);
    // A text area scrolls to its end, not to its caret: with the text up to the caret, that is it.
    box.value = edit.text.slice(0, at);
    const height = box.scrollHeight;
    box.value = edit.text;
    box.focus();
    box.setSelectionRange(at, at);
    box.scrollTop = height > box.clientHeight ? height - box.clientHeight / 2 : 0;
  }, [loaded]);

  const submit = (event) => {
    event.preventDefault();
    onSave(name.trim(), area.current.value);
  };
  // The area owns its text: drawing a megabyte anew at each key would be felt.
  const typed = () => setEdit({ ...edit, text: area.current.value, changed: true });
  return html`
    <form class="editor card" onSubmit=${submit}>
      <${Failure} error=${error} />
      ${edit.fresh && html`
        <label for="document-name">Name
          <input id="document-name" type="text" autocomplete="off" value=${name}
            onInput=${(event) => setName(event.currentTarget.value)} />
        </label>`}
      <label for="document-text">${edit.fresh ? "Text" : `Text of ${edit.name}`}
        <textarea id="document-text" ref=${area} rows="16" disabled=${!loaded} onInput=${typed}
          spellcheck="false" />
      </label>
      <div class="row">
        <button class="primary" disabled=${busy || !edit.changed || !name.trim()}>
          ${busy ? "Saving…" : "Save: encode what changed"}</button>
        <button type="button" disabled=${busy} onClick=${() => setEdit(null)}>
          ${edit.changed ? "Discard" : "Close"}</button>
      </div>
    </form>`;
}
