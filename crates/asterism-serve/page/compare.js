// The same question asked by several settings, side by side.

import { html } from "./vendor/htm-preact.js";
import { Answer, OnStrip, Sources, times } from "./answer.js";
import { chat } from "./chat.js";
import { Failure, announce } from "./dialog.js";
import { seconds } from "./format.js";
import { read, useKept, write } from "./kept.js";
import { FieldError, SettingsFields, defaultsOf, describe, toRequest } from "./settings.js";
import { canBeAsked, useServer } from "./state.js";

const MOST = 4;
const START = {
  together: true,
  // A column: {id, fields (as typed), run (a turn, see talk.js) or null}.
  columns: [
    { id: 1, fields: {}, run: null },
    { id: 2, fields: { method: "star", revisit: "auto" }, run: null },
    { id: 3, fields: { method: "dense" }, run: null },
  ],
};

const running = new Map();
const keyOf = (context) => `compare:${context}`;

function change(context, id, part) {
  write(keyOf(context), (state) => ({
    ...state,
    columns: state.columns.map((column) => (column.id === id ? { ...column, ...part } : column)),
  }), START);
}

function changeRun(context, id, part) {
  const column = read(keyOf(context), START).columns.find((one) => one.id === id);
  if (column) change(context, id, { run: { ...column.run, ...part } });
}

async function run(context, id, question, settings, abort) {
  try {
    const answer = await chat({
      model: context,
      messages: [{ role: "user", content: question }],
      settings,
      signal: abort.signal,
      onProgress: (progress) => changeRun(context, id, { state: "asking", progress }),
      onText: (text, first) => changeRun(context, id, { state: "asking", text, first, progress: null }),
    });
    changeRun(context, id, { ...answer, state: "done", progress: null });
  } catch (error) {
    const { message, code, param } = error;
    changeRun(context, id, abort.signal.aborted ? { state: "stopped", progress: null }
      : { state: "failed", progress: null, error: { message, code, param } });
  }
}

// Asks `question` by all columns, all at once or one after another.
async function runAll(context, question) {
  const { columns, together } = read(keyOf(context.id), START);
  const requests = columns.map(({ fields }) => toRequest(fields, context.method));
  const abort = new AbortController();
  running.set(context.id, abort);
  for (const { id } of columns) {
    change(context.id, id, { run: { question, state: "asking", text: "", progress: null } });
  }
  announce(`Asking by ${columns.length} settings.`);
  const start = (at) => run(context.id, columns[at].id, question, requests[at], abort);
  if (together) await Promise.all(columns.map((_, at) => start(at)));
  else for (let at = 0; at < columns.length; at += 1) await start(at);
  running.delete(context.id);
  // Those of which the loop had not come to yet when it was stopped.
  for (const { id, run: one } of read(keyOf(context.id), START).columns) {
    if (one?.state === "asking") changeRun(context.id, id, { state: "stopped" });
  }
  // Nothing changed but that nobody is asking any more: draw that.
  write(keyOf(context.id), (state) => state, START);
  announce(abort.signal.aborted ? "Stopped." : "All settings have answered.");
}

export function Compare({ context, shown, onShow, onSource }) {
  const [state, setState] = useKept(keyOf(context.id), START);
  const [question, setQuestion] = useKept(`compare-question:${context.id}`, "");
  const [error, setError] = useKept(`compare-error:${context.id}`, null);
  const busy = running.has(context.id);
  const ready = canBeAsked(context);
  const { columns } = state;
  const slowest = Math.max(...columns.map(({ run: one }) => one?.first ?? 0));

  const submit = async (event) => {
    event.preventDefault();
    if (busy || !ready || !question.trim()) return;
    setError(null);
    onShow(null);
    try {
      await runAll(context, question.trim());
    } catch (failure) {
      if (!(failure instanceof FieldError)) throw failure;
      setError({ message: failure.message, param: failure.param });
    }
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const add = () => setState({
    ...state,
    columns: [...columns, { id: Math.max(0, ...columns.map(({ id }) => id)) + 1, fields: {}, run: null }],
  });
  const remove = (id) => setState({ ...state, columns: columns.filter((one) => one.id !== id) });

  return html`
    <section class="compare" aria-labelledby="compare-title">
      <h2 id="compare-title" class="sr-only">Compare</h2>
      <form class="composer card" onSubmit=${submit}>
        <label for="compare-question">One question for all settings
          <textarea id="compare-question" rows="2" value=${question} onKeyDown=${keys}
            onInput=${(event) => setQuestion(event.currentTarget.value)} />
        </label>
        <div class="row">
          ${busy
            ? html`<button type="button" class="primary"
                onClick=${() => running.get(context.id).abort()}>Stop</button>`
            : html`<button class="primary" disabled=${!ready || !question.trim()}>
                Ask all</button>`}
          <label class="check" for="together">
            <input id="together" type="checkbox" checked=${state.together} disabled=${busy}
              onChange=${(event) => setState({ ...state, together: event.currentTarget.checked })} />
            all at once (they share the machine; one after another gives undisturbed times)
          </label>
        </div>
      </form>
      <${Failure} error=${error} />
      <div class="columns">
        ${columns.map((column, at) => html`
          <${Column} key=${column.id} ...${{ column, at, context, busy, slowest, onShow, onSource }}
            shown=${shown === column.id} onRemove=${columns.length > 1 ? () => remove(column.id) : null}
            onFields=${(fields) => change(context.id, column.id, { fields })} />`)}
      </div>
      ${columns.length < MOST && !busy && html`
        <button type="button" onClick=${add}>+ Add a setting</button>`}
    </section>`;
}

function Column({ column, at, context, busy, slowest, shown, onShow, onSource, onFields, onRemove }) {
  const { fields, run: one } = column;
  const { status } = useServer();
  const defaults = defaultsOf(context, status);
  const wanted = describe({ ...defaults, ...requested(fields, context.method) });
  const cut = one?.state === "asking" && !busy ? { ...one, state: "cut" } : one;
  const alike = sameBlocks(context, one?.asterism);
  // After an edit the context's seconds are those of the blocks that changed.
  const before = alike && context.reused_blocks === 0 ? context.seconds : null;
  return html`
    <article class="column card" aria-labelledby="column-${at}">
      <header>
        <h3 id="column-${at}">${one?.asterism ? describe(one.asterism) : wanted}</h3>
        ${onRemove && !busy && html`
          <button type="button" class="quiet" aria-label="Remove ${wanted}" onClick=${onRemove}>✕</button>`}
      </header>
      <details open=${one === null}>
        <summary>Setting</summary>
        <${SettingsFields} id="column-${column.id}" value=${fields} defaults=${defaults} onChange=${onFields} />
      </details>
      ${cut && html`
        <${Answer} turn=${cut} />
        ${one.first != null && html`
          <div class="race" aria-hidden="true">
            <i style=${{ width: `${Math.max(2, (100 * one.first) / slowest)}%` }} />
          </div>`}
        <${Table} turn=${one} before=${before} />
        <${Sources} brief sources=${one.asterism?.sources?.slice(0, 3)}
          onOpen=${(source) => (alike ? (onShow(column.id), onSource(source)) : onSource(source, true))} />
        ${alike && one.asterism?.sources?.length > 0 && html`
          <${OnStrip} shown=${shown} onShow=${() => onShow(column.id)} />`}
      `}
    </article>`;
}

// The strip shows the context's own blocks: only an answer from blocks like them can be shown.
const sameBlocks = (context, used) => used && used.method === context.method
  && used.block === context.block && used.anchor === context.anchor;

// What the fields ask for; nothing while one of them is not a number yet.
function requested(fields, defaultMethod) {
  try {
    return toRequest(fields, defaultMethod);
  } catch {
    return {};
  }
}

// `before`: seconds that encoding took before anything was asked, where the answer is from that.
function Table({ turn, before }) {
  const shown = Object.entries(times(turn)).filter(([, value]) => value !== null);
  if (shown.length === 0) return null;
  return html`
    <dl class="facts">
      ${before !== null && html`
        <div><dt>encoded before, in</dt><dd>${seconds(before)}</dd></div>`}
      ${shown.map(([term, value]) => html`<div><dt>${term}</dt><dd>${value}</dd></div>`)}
      ${turn.timings && turn.first != null && html`<div><dt>in all</dt>
        <dd>${seconds(turn.first + turn.timings.predicted_ms / 1000)}</dd></div>`}
    </dl>`;
}

// The turn of the column `id`, for the strip.
export function comparedTurn(context, id) {
  const column = read(keyOf(context.id), START).columns.find((one) => one.id === id);
  return sameBlocks(context, column?.run?.asterism) ? column.run : null;
}
