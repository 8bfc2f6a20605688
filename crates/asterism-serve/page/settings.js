// The fields that say how a text is encoded and a question asked, and what they are as a request.

import { html } from "./vendor/htm-preact.js";
import { parseTokens, size } from "./format.js";

export const METHODS = {
  star: "star: blocks behind an anchor",
  ring: "ring: exact, shards travel round",
  zigzag: "zigzag: exact, balanced ring",
  dense: "dense: exact, one pass",
};

// What is wrong with a field, in the form of the server's own errors.
export class FieldError extends Error {
  constructor(param, message) {
    super(message);
    this.param = param;
  }
}

function tokens(settings, field) {
  if (!settings[field]) return undefined;
  const n = parseTokens(settings[field]);
  if (n === null) {
    throw new FieldError(field, `“${settings[field]}” is not a number of tokens: try 4096 or 4k.`);
  }
  return n;
}

function revisit(text) {
  if (!text) return undefined;
  if (text === "auto" || text === "none" || /^\d+(\.\d+)?%$/.test(text)) return text;
  const n = parseTokens(text);
  if (n === null) {
    throw new FieldError("revisit", `“${text}” is neither auto, none, a share (5%) nor tokens (2k).`);
  }
  return n;
}

// The request's fields for `settings`, as typed: what is left empty is not sent, and what only star
// has is not sent for other methods.
export function toRequest(settings, defaultMethod) {
  const method = settings.method || undefined;
  if ((method ?? defaultMethod) !== "star") return method ? { method } : {};
  return {
    ...(method && { method }),
    ...optional("block", tokens(settings, "block")),
    ...optional("anchor", tokens(settings, "anchor")),
    ...optional("revisit", revisit(settings.revisit?.trim())),
  };
}

// What empty fields mean for a question about `context`; a context of an exact method has no
// blocks, so that their sizes are the server's.
export function defaultsOf(context, status) {
  const { block, anchor } = status?.defaults ?? {};
  return { ...context, block: context.block ?? block, anchor: context.anchor ?? anchor };
}

export const optional = (key, value) => (value === undefined ? {} : { [key]: value });

// A setting in few words: "star 4K/1K, revisit auto".
export function describe({ method, block, anchor, revisit: again }) {
  if (method !== "star") return method;
  const sizes = block == null ? "" : ` ${size(block)}/${anchor == null ? "?" : size(anchor)}`;
  return `star${sizes}${again && again !== "none" ? `, revisit ${again}` : ""}`;
}

const hint = (tokens) => (tokens == null ? "the server's" : size(tokens));

// `value` holds strings as typed, "" where the default is meant: `defaults`, which are
// the server's or the context's (`whose`).
export function SettingsFields({ id, value, defaults, onChange, whose = "context" }) {
  const set = (field) => (event) => onChange({ ...value, [field]: event.currentTarget.value });
  const star = (value.method || defaults.method) === "star";
  const field = (name, label, placeholder) => html`
    <label for="${id}-${name}">${label}
      <input id="${id}-${name}" type="text" autocomplete="off" value=${value[name] ?? ""}
        placeholder=${placeholder} list=${name === "revisit" ? `${id}-revisits` : undefined}
        onInput=${set(name)} />
    </label>`;
  return html`
    <div class="fields">
      <label for="${id}-method" class="method">Method
        <select id="${id}-method" value=${value.method || ""} onChange=${set("method")}>
          <option value="">the ${whose}'s: ${defaults.method}</option>
          ${Object.entries(METHODS).map(([method, words]) => html`
            <option value=${method}>${words}</option>`)}
        </select>
      </label>
      ${star && html`
        ${field("block", "Block, tokens", hint(defaults.block))}
        ${field("anchor", "Anchor, tokens", hint(defaults.anchor))}
        ${field("revisit", "Revisit", String(defaults.revisit ?? "none"))}
        <datalist id="${id}-revisits">
          <option value="none">nothing is computed anew</option>
          <option value="auto">at most 2,048 tokens</option>
          <option value="5%">a share of the context</option>
          <option value="2k">so many tokens</option>
        </datalist>`}
    </div>`;
}
