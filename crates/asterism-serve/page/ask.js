// Questions about a context, and their answers.

import { html } from "./vendor/htm-preact.js";
import { Answer, OnStrip, Sources, Times } from "./answer.js";
import { Failure } from "./dialog.js";
import { parseTokens } from "./format.js";
import { useKept, write } from "./kept.js";
import { FieldError, SettingsFields, defaultsOf, describe, toRequest } from "./settings.js";
import { canBeAsked, nameOf, useServer } from "./state.js";
import { ask, forget, forgetAll, stop, useTalk } from "./talk.js";

const PLAIN = { history: true, fields: {}, most: "", temperature: "" };

function requestOf({ fields, most, temperature }, context) {
  const request = toRequest(fields, context.method);
  if (most.trim()) {
    request.max_tokens = parseTokens(most);
    if (request.max_tokens === null) {
      throw new FieldError("max_tokens", `“${most}” is not a number of tokens.`);
    }
  }
  if (temperature.trim()) {
    request.temperature = Number(temperature);
    if (Number.isNaN(request.temperature)) {
      throw new FieldError("temperature", `“${temperature}” is not a number.`);
    }
  }
  return request;
}

// `shown`: the id of the turn whose sources are on the strip.
export function Ask({ context, shown, onShow, onSource }) {
  const turns = useTalk(context.id);
  const [settings, setSettings] = useKept(`ask-settings:${context.id}`, PLAIN);
  const [error, setError] = useKept(`ask-error:${context.id}`, null);
  const busy = turns.find((turn) => turn.state === "asking");

  const send = async (question) => {
    let request;
    try {
      request = requestOf(settings, context);
    } catch (failure) {
      setError({ message: failure.message, param: failure.param });
      return;
    }
    setError(null);
    onShow(null);
    await ask(context.id, question, request, settings.history);
  };

  return html`
    <section class="ask" aria-labelledby="ask-title">
      <h2 id="ask-title" class="sr-only">Ask</h2>
      <${Composer} ...${{ context, busy, send, settings, setSettings }} />
      <${Failure} error=${error} />
      <ol class="turns" aria-label="Questions, newest first">
        ${turns.toReversed().map((turn) => html`
          <${Turn} key=${turn.id} ...${{ turn, context, onShow, onSource }}
            shown=${turn.id === shown} again=${busy ? null : () => send(turn.question)} />`)}
      </ol>
      ${turns.length > 1 && html`
        <button type="button" class="quiet" onClick=${() => forgetAll(context.id)}>
          Clear the conversation</button>`}
    </section>`;
}

function Turn({ turn, context, shown, onShow, onSource, again }) {
  const sources = turn.asterism?.sources;
  return html`
    <li class="turn">
      <article aria-label=${turn.question}>
        <header>
          <h3>${turn.question}</h3>
          <button type="button" class="quiet" aria-label="Remove this question"
            onClick=${() => forget(context.id, turn.id)}>✕</button>
        </header>
        <${Answer} turn=${turn} />
        <${Times} turn=${turn} />
        <${Sources} sources=${sources} onOpen=${(source) => { onShow(turn.id); onSource(source); }} />
        <div class="row">
          ${turn.state === "asking" && html`
            <button type="button" onClick=${() => stop(turn.id)}>Stop</button>`}
          ${sources?.length > 0 && html`
            <${OnStrip} shown=${shown} onShow=${() => onShow(turn.id)} />`}
          ${turn.state !== "asking" && again && html`
            <button type="button" class="quiet" onClick=${again}>Ask again</button>`}
          ${turn.state !== "asking" && html`
            <a href="#/c/${encodeURIComponent(context.id)}/compare" onClick=${() =>
              write(`compare-question:${context.id}`, turn.question)}>Compare settings</a>`}
        </div>
      </article>
    </li>`;
}

function Composer({ context, busy, send, settings, setSettings }) {
  const [question, setQuestion] = useKept(`question:${context.id}`, "");
  const set = (part) => setSettings({ ...settings, ...part });
  const submit = (event) => {
    event.preventDefault();
    if (busy || !ready || !question.trim()) return;
    send(question.trim());
    setQuestion("");
  };
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  };
  const { status } = useServer();
  const ready = canBeAsked(context);
  const special = Object.values(settings.fields).some(Boolean);
  return html`
    <form class="composer card" onSubmit=${submit}>
      <label for="question">Question about ${nameOf(context)}
        <textarea id="question" rows="2" value=${question} onKeyDown=${keys}
          onInput=${(event) => setQuestion(event.currentTarget.value)} />
      </label>
      <div class="row">
        ${busy
          ? html`<button type="button" class="primary" onClick=${() => stop(busy.id)}>Stop</button>`
          : html`<button class="primary" disabled=${!ready || !question.trim()}>Ask</button>`}
        ${context.status === "encoding" && html`<span class="muted">once it is encoded</span>`}
        <label class="check" for="history">
          <input id="history" type="checkbox" checked=${settings.history}
            onChange=${(event) => set({ history: event.currentTarget.checked })} />
          with the conversation before it
        </label>
      </div>
      <details>
        <summary>Settings of the next question: ${special ? "changed" : describe(context)}</summary>
        <p class="muted">Another method, block or anchor encodes the text that way for this question.</p>
        <${SettingsFields} id="ask" value=${settings.fields} defaults=${defaultsOf(context, status)}
          onChange=${(fields) => set({ fields })} />
        <div class="fields">
          <label for="ask-most">At most, tokens
            <input id="ask-most" type="text" inputmode="numeric" autocomplete="off" value=${settings.most}
              placeholder="the server's" onInput=${(event) => set({ most: event.currentTarget.value })} />
          </label>
          <label for="ask-temperature">Temperature
            <input id="ask-temperature" type="text" inputmode="decimal" autocomplete="off"
              value=${settings.temperature} placeholder="the server's"
              onInput=${(event) => set({ temperature: event.currentTarget.value })} />
          </label>
        </div>
      </details>
    </form>`;
}
