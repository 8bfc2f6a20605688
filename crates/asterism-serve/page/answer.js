// What an answer looks like: its text, how it is coming along, its times, and where it came from.

import { html, useMemo } from "./vendor/htm-preact.js";
import createDOMPurify from "./vendor/dompurify.js";
import { Marked } from "./vendor/marked.js";
import { Failure } from "./dialog.js";
import { beyond, count, many, rate, seconds } from "./format.js";
import { describe } from "./settings.js";
import { heat } from "./strip.js";

// A model's headings are not the page's, and HTML that it writes is shown as written.
const markdown = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    heading({ tokens }) {
      return `<p><strong>${this.parser.parseInline(tokens)}</strong></p>`;
    },
    html({ text }) {
      return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    },
  },
});
const purify = createDOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});
const ALLOWED = {
  ALLOWED_TAGS: ["p", "br", "hr", "strong", "em", "del", "code", "pre", "blockquote", "ul", "ol",
    "li", "a", "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["href", "title", "start"],
};

// What a model writes is never trusted: Markdown to HTML, then only the tags above.
export const toHtml = (text) => purify.sanitize(markdown.parse(text), ALLOWED);

// `turn`: see talk.js. `busy`: it is being answered.
export function Answer({ turn }) {
  const { state, text, progress } = turn;
  const __html = useMemo(() => toHtml(text), [text]);
  return html`
    <div class="answer" aria-busy=${String(state === "asking")}>
      ${text && html`<div class="text" dangerouslySetInnerHTML=${{ __html }} />`}
      ${state === "done" && !text.trim() && html`<p class="muted">The model answered nothing.</p>`}
      ${state === "asking" && !text && html`<${Progress} progress=${progress} />`}
      ${state === "stopped" && html`<p class="note">Stopped.</p>`}
      ${state === "cut" && html`<p class="note">Cut off when the page was left.</p>`}
      ${turn.finish === "length" && html`<p class="note">Ended at the most tokens allowed.</p>`}
      <${Failure} error=${turn.error} />
    </div>`;
}

function Progress({ progress }) {
  const words = progress === null ? "Asking"
    : progress.phase === "encoding" ? "Encoding the text" : "Reading the question";
  const left = !progress?.eta ? "" : `, ${seconds(progress.eta)} left`;
  return html`
    <div class="progress">
      <span>${words}${left}…</span>
      <progress max="1" value=${progress?.share} aria-label=${words} />
    </div>`;
}

// `{term: value}` of an answer's times; what the server did not say is left out.
export function times(turn) {
  const { timings: t, asterism: a, first } = turn;
  if (!t) return {};
  const made = a?.blocks;
  return {
    "first token": first == null ? null : seconds(first),
    speed: t.predicted_n > 1 ? rate(t.predicted_per_second) : null,
    answer: many(t.predicted_n, "token"),
    read: `${many(t.prompt_n, "token")} in ${seconds(t.prompt_ms / 1000)}`,
    cached: many(t.cache_n, "token"),
    blocks: made?.encoded ? `${count(made.encoded)} encoded, ${count(made.reused)} reused` : null,
    revisited: a?.revisited?.tokens
      ? `${many(a.revisited.tokens, "token")} in ${seconds(a.revisited.seconds)}` : null,
  };
}

export function Times({ turn }) {
  const shown = Object.entries(times(turn)).filter(([, value]) => value !== null);
  if (shown.length === 0) return null;
  return html`
    <dl class="times">
      ${turn.asterism && html`<div><dt class="sr-only">setting</dt>
        <dd class="setting">${describe(turn.asterism)}</dd></div>`}
      ${shown.map(([term, value]) => html`<div><dt>${term}</dt><dd>${value}</dd></div>`)}
    </dl>
    ${turn.asterism?.ignored?.length > 0 && html`
      <p class="note">The server did not use: ${turn.asterism.ignored.join(", ")}.</p>`}`;
}

export const where = ({ places }) => places?.[0]?.cite ?? "";

// The passages that the question looked at, the most looked at first; one opens the passage.
export function Sources({ sources, onOpen, brief = false }) {
  if (!sources?.length) return null;
  return html`
    <div class="sources">
      <h4>Where it looked</h4>
      ${!brief && html`
        <p class="note">Most of all first; with each block's share of the question's attention, less
          what a question that asks nothing gives it.</p>`}
      <ol>
        ${sources.map((source, rank) => html`
          <li>
            <button type="button" class="source" onClick=${() => onOpen({ ...source, rank })}>
              <span class="share" style=${heat(rank)}>${beyond(source.share)}</span>
              <span class="place">block ${source.block} · ${where(source)}</span>
              <q>${source.passage.trim()}</q>
            </button>
          </li>`)}
      </ol>
    </div>`;
}

// Whether an answer's sources are on the strip, and a button that brings them there.
export function OnStrip({ shown, onShow }) {
  return html`
    <button type="button" class="quiet" aria-pressed=${String(shown)} onClick=${onShow}>
      ${shown ? "✓ On the strip" : "Show on the strip"}</button>`;
}

// An answer's sources by their blocks, for the strip: {rank, share, passage, …}.
export function byBlock(turn) {
  const sources = turn?.asterism?.sources ?? [];
  return new Map(sources.map((source, rank) => [source.block, { ...source, rank }]));
}
