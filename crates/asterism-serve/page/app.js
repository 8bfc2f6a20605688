// The page: what is chosen (in the URL's hash), the frame, and the key dialog.

import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { onKeyWanted, setKey } from "./api.js";
import { byBlock } from "./answer.js";
import { Ask } from "./ask.js";
import { Compare, comparedTurn } from "./compare.js";
import { ContextList, Manage, Memory } from "./contexts.js";
import { Dialog, Failure } from "./dialog.js";
import { Documents } from "./documents.js";
import { count, many, seconds } from "./format.js";
import { Passage } from "./passage.js";
import { NewContext } from "./plan.js";
import { isComing, nameOf, openContext, refresh, retry, useServer } from "./state.js";
import { Strip, summary } from "./strip.js";
import { useTalk } from "./talk.js";

const TABS = { ask: "Ask", compare: "Compare", documents: "Documents", manage: "Manage" };

// "#/c/ID/TAB" is a context, anything else a new one.
function route() {
  const [, kind, id, tab] = location.hash.split("/");
  if (kind !== "c" || !id) return { id: null, tab: null };
  return { id: decodeURIComponent(id), tab: tab in TABS ? tab : "ask" };
}

function App() {
  const [{ id, tab }, setRoute] = useState(route());
  const [menu, setMenu] = useState(false);
  const server = useServer();
  useEffect(() => {
    const changed = () => {
      setRoute(route());
      setMenu(false);
      window.scrollTo(0, 0);
    };
    addEventListener("hashchange", changed);
    refresh();
    return () => removeEventListener("hashchange", changed);
  }, []);
  useEffect(() => { openContext(id); }, [id]);
  const context = server.open?.id === id ? server.open : null;
  useEffect(() => {
    document.title = context ? `${nameOf(context)} · asterism` : "asterism";
  }, [context && nameOf(context)]);

  return html`
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    }}>Skip to the content</a>
    <${Top} ...${{ menu, setMenu }} />
    <nav class="side" aria-label="Contexts" data-open=${menu ? "true" : null}>
      <${ContextList} chosen=${id} />
      <${Memory} />
    </nav>
    <main id="main" tabIndex="-1">
      <${Failure} error=${server.error} action=${{ label: server.error?.status === 401
        ? "Give a key" : "Try again", run: retry }} />
      ${id === null ? html`<${NewContext} />`
        : server.openError ? html`
          <${Failure} error=${server.openError} action=${{ label: "Try again", run: () => openContext(id) }} />`
          : context ? html`<${Context} key=${id} 
            ...${{ context, tab, eta: server.eta, editError: server.editError }} />`
            : html`<p class="muted">Loading…</p>`}
    </main>
    <${Keys} />
    <div id="announcements" class="sr-only" role="status" aria-live="polite" />`;
}

function Top({ menu, setMenu }) {
  const { status } = useServer();
  return html`
    <header class="top">
      <a class="mark" href="#/new" aria-label="asterism: new context">
        <img src="/page/icon.svg" alt="" width="28" height="28" />asterism</a>
      ${status && html`
        <p class="model"><strong>${status.model.id}</strong>
          <span class="muted">up to ${count(status.model.max_positions)} tokens · ${status.device}</span></p>`}
      <button type="button" class="menu" aria-expanded=${String(menu)} onClick=${() => setMenu(!menu)}>
        Contexts</button>
    </header>`;
}

function Context({ context, tab, eta, editError }) {
  const turns = useTalk(context.id);
  // Whose sources are on the strip: a question's id, null for the last one that has some.
  const [shown, setShown] = useState(null);
  const [compared, setCompared] = useState(null);
  const [reading, setReading] = useState(null);
  const last = turns.findLast((turn) => turn.asterism?.sources?.length);
  const turn = tab === "compare" ? comparedTurn(context, compared ?? 1)
    : tab === "ask" ? turns.find(({ id }) => id === shown) ?? last : null;
  const sources = byBlock(turn);
  const sourceOf = (index) => sources.get(index) ?? null;
  const read = (source, foreign = false) => setReading({ index: source.block, source, foreign });
  const changes = tab === "documents";
  const encoding = isComing(context);
  const blocks = context.blocks ?? [];
  const here = `#/c/${encodeURIComponent(context.id)}`;

  return html`
    <header class="head">
      <h1>${nameOf(context)}</h1>
      <p class="muted">${many(context.tokens, "token")} · ${many(context.documents.length, "document")}
        ${context.status === "stored" && " · on disk, comes back when it is asked"}
        ${context.seconds !== null
          && ` · ${context.loaded_blocks ? "loaded" : "encoded"} in ${seconds(context.seconds)}`}
        ${encoding && eta !== null && ` · ${seconds(eta)} left`}</p>
    </header>
    <section class="strip-box" aria-label="Blocks">
      ${blocks.length > 0 && html`
        <${Strip} label="Blocks of ${nameOf(context)}" cells=${blocks} anchor=${context.anchor}
          ...${{ encoding, changes, sources }}
          onOpen=${(index) => setReading({ index, source: sourceOf(index), foreign: false })} />
        <p class="summary">${summary(context, changes)}
          ${turn && html` Lit: where “${turn.question}” looked.`}</p>`}
      ${encoding && html`<progress max="1" value=${context.progress} aria-label="Encoded" />`}
      <${Failure} error=${context.error ?? editError} />
    </section>
    <nav class="tabs" aria-label="Parts of ${nameOf(context)}">
      ${Object.entries(TABS).map(([name, words]) => html`
        <a href="${here}/${name}" aria-current=${name === tab ? "page" : null}>${words}</a>`)}
    </nav>
    ${tab === "ask" && html`
      <${Ask} ...${{ context, shown: (turn ?? {}).id, onShow: setShown, onSource: read }} />`}
    ${tab === "compare" && html`
      <${Compare} ...${{ context, shown: turn && (compared ?? 1), onShow: setCompared, onSource: read }} />`}
    ${tab === "documents" && html`<${Documents} context=${context} />`}
    ${tab === "manage" && html`<${Manage} context=${context} />`}
    ${reading && html`
      <${Passage} ...${{ context, ...reading, onClose: () => setReading(null) }}
        onGo=${(index) => setReading({ index, source: sourceOf(index), foreign: false })} />`}`;
}

// Asks for the API key when the server wants one, and again when it was wrong.
function Keys() {
  const [wanted, setWanted] = useState(null);
  const [key, setText] = useState("");
  useEffect(() => {
    onKeyWanted((message) => new Promise((resolve) => {
      setText("");
      setWanted({ message, resolve });
    }));
  }, []);
  if (!wanted) return null;
  const answer = (given) => {
    if (given) setKey(key.trim());
    setWanted(null);
    wanted.resolve(given);
  };
  return html`
    <${Dialog} title="API key" onClose=${() => answer(false)}>
      <form onSubmit=${(event) => { event.preventDefault(); answer(true); }}>
        <p>${wanted.message}</p>
        <label for="key">Key
          <input id="key" type="password" autocomplete="off" value=${key}
            onInput=${(event) => setText(event.currentTarget.value)} />
        </label>
        <p class="muted">It is kept in this tab until the tab is closed.</p>
        <button class="primary" disabled=${!key.trim()}>Use this key</button>
      </form>
    <//>`;
}

// A file that is dropped beside its place must not replace the page.
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());

render(html`<${App} />`, document.getElementById("app"));
