// The list of contexts, the server's memory, and what can be done to the context that is open.

import { html, useState } from "./vendor/htm-preact.js";
import { call, contextPath } from "./api.js";
import { Dialog, Failure, announce } from "./dialog.js";
import { bytes, count, distance, percent, seconds } from "./format.js";
import { write } from "./kept.js";
import { describe } from "./settings.js";
import { isComing, nameOf, openContext, refresh, setOpen, useServer } from "./state.js";

export function ContextList({ chosen }) {
  const { contexts } = useServer();
  const newestFirst = contexts?.toSorted((a, b) => b.created - a.created);
  return html`
    <a class="button" href="#/new" aria-current=${chosen === null ? "page" : null}>+ New context</a>
    ${contexts?.length === 0 && html`<p class="muted">No contexts yet.</p>`}
    <ul class="contexts">
      ${newestFirst?.map((context) => html`
        <li key=${context.id}>
          <a href="#/c/${encodeURIComponent(context.id)}/ask"
            aria-current=${context.id === chosen ? "page" : null}>
            <span class="name">${nameOf(context)}${context.pinned && html`
              <span class="pin" role="img" aria-label="pinned" title="pinned">◆</span>`}</span>
            <small>${standing(context)}</small>
            ${isComing(context) && html`
              <progress max="1" value=${context.progress} aria-label="Encoded" />`}
          </a>
        </li>`)}
    </ul>`;
}

function standing(context) {
  if (isComing(context)) return `${context.status}, ${percent(context.progress)}`;
  if (context.status === "failed") return "failed";
  const until = context.expires_at ? `, goes ${distance(context.expires_at)}` : "";
  const where = context.status === "stored" ? " on disk" : "";
  return `${count(context.tokens)} tokens, ${bytes(context.kv_bytes)}${where}${until}`;
}

export function Memory() {
  const { status } = useServer();
  if (!status) return null;
  const { capacity_bytes: all, reserved_bytes: reserved, cache_bytes: cached } = status.memory;
  const words = `${bytes(reserved)} in use${all === null ? "" : ` of ${bytes(all)}`}; blocks that `
    + `no context holds are kept up to ${bytes(cached)}`;
  const share = (part) => ({ width: `${Math.min(100, (100 * part) / all)}%` });
  return html`
    <div class="memory">
      <span id="memory-label">Memory</span>
      ${all !== null && html`
        <div class="bar" role="meter" aria-labelledby="memory-label" aria-valuemin="0"
          aria-valuemax=${all} aria-valuenow=${Math.min(reserved, all)} aria-valuetext=${words}>
          <i style=${share(reserved)} />
        </div>`}
      <small>${words}</small>
    </div>`;
}

const LIVES = { 600: "10 minutes", 3600: "1 hour", 86400: "1 day", 604800: "1 week" };

export function Manage({ context }) {
  const [name, setName] = useState(nameOf(context));
  const [error, setError] = useState(null);
  const [sure, setSure] = useState(false);
  const patch = async (change, said) => {
    setError(null);
    try {
      const body = change;
      setOpen({ ...context, ...await call("PATCH", contextPath(context.id), { body }) });
      announce(said);
      refresh();
    } catch (failure) {
      setError(failure);
    }
  };
  const remove = async () => {
    try {
      await call("DELETE", contextPath(context.id));
      for (const kept of ["talk", "question", "compare", "edit", "ask-settings"]) {
        write(`${kept}:${context.id}`, undefined);
      }
      openContext(null);
      location.hash = "#/new";
      announce(`${nameOf(context)} is deleted.`);
      refresh();
    } catch (failure) {
      setSure(false);
      setError(failure);
    }
  };
  const rename = (event) => {
    event.preventDefault();
    patch({ name: name.trim() }, "Renamed.");
  };
  const ttl = context.ttl_seconds;
  return html`
    <section class="manage" aria-labelledby="manage-title">
      <h2 id="manage-title" class="sr-only">Manage</h2>
      <${Failure} error=${error} />
      <form class="row end" onSubmit=${rename}>
        <label for="rename">Name
          <input id="rename" type="text" autocomplete="off" value=${name}
            onInput=${(event) => setName(event.currentTarget.value)} />
        </label>
        <button disabled=${!name.trim() || name.trim() === context.name}>Rename</button>
      </form>
      <label class="check" for="pinned">
        <input id="pinned" type="checkbox" checked=${context.pinned} onChange=${(event) =>
          patch({ pinned: event.currentTarget.checked }, "Saved.")} />
        Pinned: its blocks are never given up to make room for others
      </label>
      <label for="ttl">Delete when it has not been used for
        <select id="ttl" value=${String(ttl ?? "")} onChange=${(event) =>
          patch({ ttl_seconds: event.currentTarget.value ? Number(event.currentTarget.value) : null },
            "Saved.")}>
          <option value="">never</option>
          ${Object.entries({ ...(ttl && !LIVES[ttl] && { [ttl]: seconds(ttl) }), ...LIVES })
            .map(([value, words]) => html`<option value=${value}>${words}</option>`)}
        </select>
      </label>
      <${Facts} context=${context} />
      <${Elsewhere} context=${context} />
      <button type="button" class="danger" onClick=${() => setSure(true)}>Delete this context…</button>
      ${sure && html`
        <${Dialog} title="Delete ${nameOf(context)}?" onClose=${() => setSure(false)}>
          <p>Its text and its ${bytes(context.kv_bytes)} of keys and values are given up.</p>
          <div class="row">
            <button type="button" class="danger" onClick=${remove}>Delete</button>
            <button type="button" onClick=${() => setSure(false)}>Keep it</button>
          </div>
        <//>`}
    </section>`;
}

function Facts({ context }) {
  const facts = {
    Id: context.id,
    Made: new Date(context.created * 1000).toLocaleString(),
    "Last used": distance(context.last_used),
    Goes: context.expires_at ? distance(context.expires_at) : null,
    Method: `${describe(context)}, ${context.hosts} ${context.hosts === 1 ? "host" : "hosts"}`,
    Blocks: blocksOf(context),
    "On disk": context.on_disk ? "yes, as it is now" : null,
    "Came back": context.restored && restoredOf(context.restored),
    [context.loaded_blocks ? "Loaded in" : "Encoded in"]: context.seconds === null ? null : seconds(context.seconds)
      + (context.predicted_seconds === null ? "" : ` (planned: ${seconds(context.predicted_seconds)})`),
  };
  return html`
    <dl class="facts">
      ${Object.entries(facts).filter(([, value]) => value !== null).map(([term, value]) => html`
        <div><dt>${term}</dt><dd>${value}</dd></div>`)}
    </dl>`;
}

function blocksOf({ encoded_blocks: encoded, reused_blocks: reused, loaded_blocks: loaded }) {
  const counts = [[encoded, "encoded"], [reused, "reused"], [loaded, "loaded from disk"]];
  const words = counts.filter(([n]) => n > 0).map(([n, word]) => `${count(n)} ${word}`);
  return words.length ? words.join(", ") : null;
}

// How it came back from disk, and what the other way was expected to take.
function restoredOf({ how, load_seconds: load, encode_seconds: encode, reason }) {
  const took = (words, value) => value !== null && `${words} ${seconds(value)}`;
  const expected = [took("loading", load), took("encoding", encode)].filter(Boolean).join(", ");
  return `${how}${expected && ` (expected: ${expected})`}${reason ? `: ${reason}` : ""}`;
}

// Every context is a model id: any client that speaks OpenAI's API can ask it.
function Elsewhere({ context }) {
  const body = JSON.stringify({
    model: nameOf(context),
    messages: [{ role: "user", content: "…" }],
  });
  const command = `curl ${location.origin}/v1/chat/completions -H 'Content-Type: application/json' \\\n`
    + `  -d '${body.replaceAll("'", "'\\''")}'`;
  return html`
    <details>
      <summary>Ask it from elsewhere</summary>
      <p>This context is a model of the server: any client of OpenAI's API can choose
        <code>${nameOf(context)}</code> with the base URL <code>${location.origin}/v1</code>.</p>
      <pre tabIndex="0" aria-label="Command">${command}</pre>
    </details>`;
}
