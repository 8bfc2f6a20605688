// The strip: a cell per block, in the order of the text, coloured by the host that holds it.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { beyond, count, many, percent, size } from "./format.js";

// Why a block was encoded again after an edit, or not: a sign, a word for wide cells, a sentence.
export const CHANGES = {
  reused: ["=", "kept", "unchanged: its keys were kept"],
  edited: ["✎", "edited", "encoded again: its text changed"],
  moved: ["→", "moved", "encoded again: it stands elsewhere now"],
  anchor: ["★", "anchor", "encoded again: the anchor in front of it changed"],
  given_up: ["↯", "given up", "encoded again: its keys had been given up to free memory"],
};

const HOSTS = 8;

// Few cells are wide and say much, many are small and say it in their tooltips.
const scale = (n) =>
  (n <= 12 ? "wide" : n <= 22 ? "middle one-row" : n <= 60 ? "middle" : n <= 160 ? "small" : "tiny");

function sentence(cell, source) {
  const last = cell.start + cell.tokens - 1;
  return [
    `Block ${cell.index}${cell.index === 0 ? ", with the anchor" : ""}`,
    `tokens ${count(cell.start)} to ${count(last)}`,
    `host ${cell.host}`,
    cell.state === "reused" ? "reused from the cache"
      : cell.state === "loaded" ? "loaded from disk" : cell.state,
    cell.change && CHANGES[cell.change]?.[2],
    source && `source ${source.rank + 1} of the answer, ${beyond(source.share)}`,
    cell.documents?.length > 2 ? `${cell.documents[0]} and ${cell.documents.length - 1} more`
      : cell.documents?.join(", "),
  ].filter(Boolean).join(" · ");
}

// How bright a source is: by its rank, 0 the first. Shares are of whole blocks, ranks of passages.
export const heat = (rank) => ({ "--heat": `${Math.round(100 * 0.6 ** rank)}%` });

function Cell({ cell, width, source, faded, changes, next, anchor, ...rest }) {
  const change = changes && cell.change ? CHANGES[cell.change] : null;
  const sign = change?.[0] ?? (cell.index === 0 ? "★" : cell.state === "reused" ? "↺" : "");
  const below = source ? beyond(source.share)
    : change ? change[1]
      : cell.state === "waiting" ? "" : cell.state;
  return html`
    <button type="button" class="cell" data-host=${cell.host % HOSTS} data-state=${cell.state}
      data-change=${changes ? cell.change : null} data-source=${Boolean(source)}
      data-faded=${faded} data-next=${next}
      style=${source && heat(source.rank)} ...${rest}>
      <span class="sr-only">${sentence(cell, source)}</span>
      ${width !== "tiny" && html`<span class="face" aria-hidden="true">
        ${width !== "small" && html`<span class="number">${cell.index}</span>`}
        <span class="sign">${source && width.startsWith("middle") ? beyond(source.share) : sign}</span>
        ${width === "wide" && html`<span class="word">${below}</span>`}</span>`}
      ${cell.index === 0 && anchor > 0 && html`
        <span class="anchor" style=${{ width: `${Math.min(100, (100 * anchor) / cell.tokens)}%` }} />`}
    </button>`;
}

function Legend({ cells, sources, changes }) {
  const hosts = [...new Set(cells.map((cell) => cell.host))].sort((a, b) => a - b);
  const states = new Set(cells.map((cell) => cell.state));
  const kinds = changes ? Object.keys(CHANGES).filter((kind) =>
    cells.some((cell) => cell.change === kind)) : [];
  return html`
    <ul class="legend" aria-label="Legend">
      ${hosts.length > 1 && hosts.slice(0, HOSTS).map((host) => html`
        <li><i class="cell" data-host=${host % HOSTS} data-state="encoded" />host ${host}</li>`)}
      ${hosts.length > HOSTS && html`<li>… ${many(hosts.length, "host")}</li>`}
      <li><i class="cell" data-host="0" data-state="reused">★</i>anchor</li>
      ${states.has("waiting") && html`
        <li><i class="cell" data-host="0" data-state="waiting" />waiting</li>`}
      ${hosts.length === 1 && states.has("encoded") && html`
        <li><i class="cell" data-host="0" data-state="encoded" />encoded</li>`}
      ${states.has("reused") && !changes && html`
        <li><i class="cell" data-host="0" data-state="reused">↺</i>reused</li>`}
      ${sources.size > 0 && html`<li><i class="cell" data-source="true" />source of the answer</li>`}
      ${kinds.map((kind) => html`
        <li><i class="cell" data-host="0" data-change=${kind}
          data-state=${kind === "reused" ? "reused" : "encoded"}>${CHANGES[kind][0]}</i>
          ${CHANGES[kind][1]}</li>`)}
    </ul>`;
}

// `sources`: block -> {rank, share} of the answer that is shown. `changes`: say why blocks were
// encoded again. `onOpen(index)`: a cell was pressed; without it cells only tell about themselves.
export function Strip({ label, cells, anchor, encoding, changes = false, sources = new Map(), onOpen }) {
  const [current, setCurrent] = useState(0);
  const [tip, setTip] = useState(null);
  const box = useRef();
  const width = scale(cells.length);
  const at = Math.min(current, cells.length - 1);

  // Hosts take their blocks in order: the first that waits is the next.
  const next = new Map();
  if (encoding) {
    for (const cell of cells) {
      if (cell.state === "waiting" && !next.has(cell.host)) next.set(cell.host, cell.index);
    }
  }

  // Many cells scroll: the one that was looked at most is brought into view.
  const brightest = [...sources].find(([, { rank }]) => rank === 0)?.[0];
  useEffect(() => {
    const cell = box.current.children[cells.findIndex((one) => one.index === brightest)];
    if (!cell) return;
    const room = box.current.clientHeight - cell.offsetHeight;
    if (cell.offsetTop < box.current.scrollTop || cell.offsetTop > box.current.scrollTop + room) {
      box.current.scrollTop = cell.offsetTop - room / 2;
    }
  }, [brightest]);

  const show = (index) => (event) => {
    const cell = event.currentTarget;
    const middle = cell.offsetLeft + cell.offsetWidth / 2;
    setTip({ index, middle, top: cell.offsetTop + cell.offsetHeight - box.current.scrollTop });
  };
  const hide = () => setTip(null);
  const go = (index) => {
    const cell = box.current.children[Math.max(0, Math.min(cells.length - 1, index))];
    setCurrent(Math.max(0, Math.min(cells.length - 1, index)));
    cell.focus();
  };
  const keys = (event) => {
    const all = [...box.current.children];
    const perRow = all.findIndex((cell) => cell.offsetTop > all[0].offsetTop);
    const row = perRow < 0 ? cells.length : perRow;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[event.key];
    if (step) go(at + step);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(cells.length - 1);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  };

  return html`
    <div class="strip">
      <div class="cells ${width}" role="group" ref=${box} onKeyDown=${keys} onScroll=${hide}
        aria-label="${label}: ${many(cells.length, "block")}, arrow keys move">
        ${cells.map((cell, index) => html`
          <${Cell} key=${cell.index} ...${{ cell, width, changes, anchor }}
            source=${sources.get(cell.index)} faded=${sources.size > 0 && !sources.has(cell.index)}
            next=${next.get(cell.host) === cell.index} tabIndex=${index === at ? 0 : -1}
            onMouseEnter=${show(index)} onMouseLeave=${hide} onBlur=${hide}
            onFocus=${(event) => { setCurrent(index); show(index)(event); }}
            onClick=${() => onOpen?.(cell.index)} />`)}
      </div>
      ${tip && cells[tip.index] && html`
        <${Tip} box=${box.current} ...${tip}
          text=${sentence(cells[tip.index], sources.get(cells[tip.index].index))} />`}
      <${Legend} ...${{ cells, sources, changes }} />
    </div>`;
}

// A tooltip below a cell, kept inside the strip. The cell's own label says the same.
function Tip({ box, middle, top, text }) {
  const half = Math.min(170, box.clientWidth / 2);
  const left = Math.max(half, Math.min(box.clientWidth - half, middle));
  return html`
    <div class="tip" aria-hidden="true" style=${{ left: `${left}px`, top: `${top + 6}px` }}>
      ${text}
    </div>`;
}

// How the blocks stand, in words: below the strip, and for those who cannot see it.
export function summary({ blocks, block, anchor, method, status, progress }, changes) {
  const of = (test) => blocks.filter(test).length;
  if (changes && blocks.some((cell) => cell.change)) {
    const again = blocks.filter((cell) => cell.change && cell.change !== "reused");
    const why = Object.keys(CHANGES).filter((kind) => kind !== "reused")
      .map((kind) => [again.filter((cell) => cell.change === kind).length, CHANGES[kind][1]])
      .filter(([n]) => n > 0).map(([n, word]) => `${count(n)} ${word}`).join(", ");
    return again.length === 0
      ? `None of ${many(blocks.length, "block")} had to be encoded again.`
      : `${count(again.length)} of ${many(blocks.length, "block")} encoded again (${why}).`;
  }
  if (status === "encoding" || status === "restoring") {
    return `${count(of((cell) => cell.state !== "waiting"))} of ${many(blocks.length, "block")} `
      + `${status === "encoding" ? "encoded" : "there"}, ${percent(progress)}.`;
  }
  const reused = of((cell) => cell.state === "reused");
  const sizes = method === "star" ? ` of ${size(block)} tokens behind an anchor of ${size(anchor)}` : "";
  return `${many(blocks.length, "block")}${sizes}${reused ? `, ${count(reused)} reused` : ""}.`;
}
