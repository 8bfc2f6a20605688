// A new context: its documents and settings, and the plan, made by the server before anything runs.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { call } from "./api.js";
import { Failure, announce } from "./dialog.js";
import { EXAMPLE_QUESTION, exampleDocument } from "./example.js";
import { contextName, droppedFiles, freeName, readDocuments } from "./files.js";
import { bytes, count, flops, many, parseTokens, seconds } from "./format.js";
import { useKept, write } from "./kept.js";
import { SettingsFields, FieldError, optional, toRequest } from "./settings.js";
import { refresh, useServer } from "./state.js";
import { Strip } from "./strip.js";

const EMPTY = { documents: [], pasted: "", name: "", settings: {}, more: {} };
const PLAN_AFTER = 500;

function documentsOf({ documents, pasted }) {
  if (pasted.trim() === "") return documents;
  const names = new Set(documents.map((document) => document.name));
  return [...documents, { name: freeName("pasted.txt", names), text: pasted }];
}

function requestOf(draft, defaults) {
  const { hosts, slack, ttl, system, pinned } = draft.more;
  const number = (field, text) => {
    if (!text?.trim()) return undefined;
    const n = parseTokens(text);
    if (n === null) throw new FieldError(field, `“${text}” is not a whole number.`);
    return n;
  };
  return {
    documents: documentsOf(draft),
    ...(draft.name.trim() && { name: draft.name.trim() }),
    ...toRequest(draft.settings, defaults.method),
    ...optional("hosts", number("hosts", hosts)),
    ...optional("slack", number("slack", slack)),
    ...optional("ttl_seconds", number("ttl_seconds", ttl)),
    ...(system?.trim() && { system }),
    ...(pinned && { pinned }),
  };
}

export function NewContext() {
  const { status, contexts } = useServer();
  const [draft, setDraft] = useKept("draft", EMPTY);
  const [plan, setPlan] = useState(null);
  const [planning, setPlanning] = useState(false);
  const [error, setError] = useState(null);
  const [refused, setRefused] = useState([]);
  const [starting, setStarting] = useState(false);
  const [round, setRound] = useState(0);
  const change = (part) => setDraft((before) => ({ ...before, ...part }));
  const any = documentsOf(draft).length > 0;
  const defaults = status?.defaults;

  // The plan follows the draft: some time after the last change, and a change calls it off.
  useEffect(() => {
    setError(null);
    if (!any || !defaults) {
      setPlan(null);
      return undefined;
    }
    const abort = new AbortController();
    setPlanning(true);
    const timer = setTimeout(async () => {
      try {
        const body = { ...requestOf(draft, defaults), dry_run: true };
        setPlan(await call("POST", "/v1/contexts", { body, signal: abort.signal }));
      } catch (failure) {
        if (abort.signal.aborted) return;
        setPlan(null);
        setError(failure);
      }
      setPlanning(false);
    }, PLAN_AFTER);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [draft, any, Boolean(defaults), round]);

  const take = async (files) => {
    const taken = draft.documents.map((document) => document.name);
    const { documents, refused: not } = await readDocuments(files, taken);
    setRefused(not);
    const names = new Set(contexts?.map((context) => context.name));
    const name = draft.name || documents.length === 0 ? draft.name
      : freeName(contextName(documents[0].name), names);
    change({ documents: [...draft.documents, ...documents], name });
    announce(`${many(documents.length, "document")} added.`);
  };

  const start = async () => {
    setStarting(true);
    setError(null);
    try {
      const body = requestOf(draft, defaults);
      const context = await call("POST", "/v1/contexts", { body });
      if (draft.example) write(`question:${context.id}`, EXAMPLE_QUESTION);
      setDraft(undefined);
      await refresh();
      location.hash = `#/c/${encodeURIComponent(context.id)}/ask`;
    } catch (failure) {
      setError(failure);
    }
    setStarting(false);
  };

  return html`
    <section class="new" aria-labelledby="new-title">
      <h1 id="new-title">New context</h1>
      <p class="lead">A text is encoded once, in blocks that are independent of each other; then
        any number of questions are answered from all of it.</p>
      <${Drop} onFiles=${take} onExample=${any ? null : () => change({ ...EMPTY, documents: [exampleDocument()],
        settings: { block: "2k", anchor: "512" }, name: freeName("harbour", new Set(contexts?.map((one) => one.name))), example: true })} />
      ${refused.length > 0 && html`
        <div class="failure" role="alert"><ul>${refused.map((why) => html`<li>${why}</li>`)}</ul></div>`}
      <label for="pasted">Or paste text
        <textarea id="pasted" rows="3" value=${draft.pasted}
          onInput=${(event) => change({ pasted: event.currentTarget.value })} />
      </label>
      <${Documents} draft=${draft} plan=${plan} onRemove=${(name) => change({
        documents: draft.documents.filter((document) => document.name !== name) })} />
      ${defaults && html`<${Settings} ...${{ draft, change, defaults }} />`}
      <${Failure} error=${error} />
      ${any && html`
        <${Plan} ...${{ plan, planning, starting, start }} again=${() => setRound(round + 1)} />`}
    </section>`;
}

function Drop({ onFiles, onExample }) {
  const [over, setOver] = useState(false);
  const input = useRef();
  const drop = async (event) => {
    event.preventDefault();
    setOver(false);
    onFiles(await droppedFiles(event.dataTransfer));
  };
  const chosen = () => {
    onFiles([...input.current.files].map((file) => ({ name: file.name, file })));
    input.current.value = "";
  };
  return html`
    <div class="drop" data-over=${over ? "true" : null} onDrop=${drop}
      onDragOver=${(event) => { event.preventDefault(); setOver(true); }}
      onDragLeave=${() => setOver(false)}>
      <p>Drop files or folders here: text, PDF, DOCX, EPUB, HTML</p>
      <div class="row">
        <input ref=${input} id="files" class="hidden" type="file" multiple tabIndex="-1"
          aria-label="Files" onChange=${chosen} />
        <button type="button" onClick=${() => input.current.click()}>Choose files</button>
        ${onExample && html`
          <button type="button" class="quiet" onClick=${onExample}>Try an example</button>`}
      </div>
    </div>`;
}

function Documents({ draft, plan, onRemove }) {
  if (draft.documents.length === 0) return null;
  const planned = new Map(plan?.documents.map((document) => [document.name, document]));
  return html`
    <ul class="documents" aria-label="Documents">
      ${draft.documents.map(({ name, text }) => html`
        <li key=${name}>
          <span class="name">${name}</span>
          <span class="muted">${many(planned.get(name)?.characters ?? text.length, "character")}
            ${planned.has(name) && `, ${many(planned.get(name).tokens, "token")}`}</span>
          <button type="button" class="quiet" aria-label="Remove ${name}"
            onClick=${() => onRemove(name)}>✕</button>
        </li>`)}
    </ul>`;
}

function Settings({ draft, change, defaults }) {
  const more = (field, label, hint) => html`
    <label for="new-${field}">${label}
      <input id="new-${field}" type="text" inputmode="numeric" autocomplete="off"
        value=${draft.more[field] ?? ""} placeholder=${hint}
        onInput=${(event) => change({ more: { ...draft.more, [field]: event.currentTarget.value } })} />
    </label>`;
  return html`
    <fieldset>
      <legend>Settings</legend>
      <label for="new-name">Name
        <input id="new-name" type="text" autocomplete="off" value=${draft.name}
          placeholder="its id" onInput=${(event) => change({ name: event.currentTarget.value })} />
      </label>
      <${SettingsFields} id="new" whose="server" value=${draft.settings} defaults=${defaults}
        onChange=${(settings) => change({ settings })} />
      <details>
        <summary>More</summary>
        <div class="fields">
          ${more("hosts", "Hosts", String(defaults.hosts))}
          ${more("slack", "Room per block for edits, tokens", "the server's")}
          ${more("ttl", "Delete when unused for, seconds", "never")}
          <label class="check" for="new-pinned">
            <input id="new-pinned" type="checkbox" checked=${Boolean(draft.more.pinned)}
              onChange=${(event) => change({ more: { ...draft.more, pinned: event.currentTarget.checked } })} />
            Pin: never given up for memory
          </label>
        </div>
        <label for="new-system">System prompt
          <textarea id="new-system" rows="2" value=${draft.more.system ?? ""}
            onInput=${(event) => change({ more: { ...draft.more, system: event.currentTarget.value } })} />
        </label>
      </details>
    </fieldset>`;
}

function Plan({ plan, planning, starting, start, again }) {
  const figure = (value, label) => html`<div><dt>${label}</dt><dd>${value}</dd></div>`;
  const busy = planning || starting;
  return html`
    <section class="plan card" aria-labelledby="plan-title" aria-busy=${String(planning)}>
      <h2 id="plan-title">Plan ${planning && html`<small class="muted">planning…</small>`}</h2>
      ${plan && html`
        <dl class="figures">
          ${figure(count(plan.tokens), "tokens")}
          ${figure(count(plan.blocks.length), plan.blocks.length === 1 ? "block" : "blocks")}
          ${figure(bytes(plan.kv_bytes), "memory of keys and values")}
          ${figure(flops(plan.work_flops), "work")}
          ${figure(plan.seconds === null ? "not known" : `about ${seconds(plan.seconds)}`,
            plan.seconds === null ? "time: nothing measured yet" : "time to encode")}
        </dl>
        <${Strip} label="Planned blocks" cells=${plan.blocks} anchor=${plan.anchor} />
        ${plan.fits ? html`<p class="fits">✓ It fits this server.</p>` : html`
          <div class="failure" role="alert">
            <p>It does not fit: ${plan.reason}</p>
            <button type="button" onClick=${again}>Plan again</button>
          </div>`}`}
      <button type="button" class="primary" disabled=${!plan?.fits || busy} onClick=${start}>
        ${starting ? "Starting…" : "Encode"}</button>
    </section>`;
}
