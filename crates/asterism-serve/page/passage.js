// A block's text in a dialog, with the documents and lines it is from; the passage that an answer
// looked at is marked.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { call, contextPath } from "./api.js";
import { Dialog, Failure } from "./dialog.js";
import { beyond, count, many } from "./format.js";
import { write } from "./kept.js";

// `source` (of an answer) is null for a block that was opened by itself. `foreign`: its block is of
// another division of the text than the context's, so that only its passage can be shown.
export function Passage({ context, index, source, foreign, onGo, onClose }) {
  const [block, setBlock] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    setBlock(null);
    setError(null);
    if (foreign) return undefined;
    const abort = new AbortController();
    call("GET", contextPath(context.id, "blocks", index), { signal: abort.signal })
      .then(setBlock, (failure) => abort.signal.aborted || setError(failure));
    return () => abort.abort();
  }, [context.id, index, foreign]);
  const places = source?.places?.length ? source.places : block?.places ?? [];
  const last = context.blocks.length - 1;
  return html`
    <${Dialog} wide title=${source ? `Passage of block ${index}` : `Block ${index}`} onClose=${onClose}>
      <p class="muted">
        ${source && html`<strong>Source ${source.rank + 1} of the answer: the block drew
          ${" "}${beyond(source.share)} of the question's attention.</strong> `}
        ${block && `${many(block.tokens, "token")} from ${count(block.start)}, `
          + `held by host ${context.blocks[index].host}.`}
      </p>
      <ul class="places">
        ${places.map((place) => html`
          <li>
            <strong>${place.cite}</strong>
            ${" "}<a href="#/c/${encodeURIComponent(context.id)}/documents" onClick=${() => {
              write(`edit:${context.id}`, { name: place.document, at: place.start });
              onClose();
            }}>Edit here</a>
          </li>`)}
      </ul>
      <${Failure} error=${error} />
      ${foreign && html`<pre class="passage" tabIndex="0">${source.passage}</pre>`}
      ${block && html`<${Text} text=${block.text} passage=${source?.passage} />`}
      ${!foreign && html`
        <div class="row">
          <button type="button" disabled=${index === 0} onClick=${() => onGo(index - 1)}>← Block before</button>
          <button type="button" disabled=${index === last} onClick=${() => onGo(index + 1)}>Block after →</button>
        </div>`}
    <//>`;
}

function Text({ text, passage }) {
  const mark = useRef();
  useEffect(() => {
    // Only the text scrolls; scrollIntoView would move the page behind the dialog as well.
    if (!mark.current) return;
    const box = mark.current.parentElement;
    box.scrollTop = mark.current.offsetTop - box.offsetTop - box.clientHeight / 2;
  }, [text, passage]);
  const at = passage ? text.indexOf(passage) : -1;
  if (at < 0) {
    // A passage may begin or end in the middle of a character of the block's first or last token.
    return html`
      ${passage && html`<p><mark>${passage}</mark></p>`}
      <pre class="passage" tabIndex="0" aria-label="Text of the block">${text}</pre>`;
  }
  return html`
    <pre class="passage" tabIndex="0" aria-label="Text of the block">${text.slice(0, at)}<mark
      ref=${mark}>${passage}</mark>${text.slice(at + passage.length)}</pre>`;
}
