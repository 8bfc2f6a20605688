// What the server says: its status, its contexts, the one that is open and how its encoding goes.
// The server's word is law; nothing here survives a reload, and nothing needs to.

import { useEffect, useReducer } from "./vendor/htm-preact.js";
import { ApiError, call, contextPath, events, stream } from "./api.js";
import { announce } from "./dialog.js";

const IDLE = 4000;
const BUSY = 1000;

export const state = {
  status: null,
  contexts: null,
  // The context that is open, with its blocks; its error if it could not be had.
  open: null,
  openError: null,
  // Why its last edit failed, if it did: the context is then as it was before.
  editError: null,
  // Seconds until the open context is encoded, as the server last said it.
  eta: null,
  // What polling last failed with.
  error: null,
};

const listeners = new Set();
let wanted = null;
let following = null;

function changed() {
  for (const listener of listeners) listener();
}

// A hook: draws anew whenever anything above changes.
export function useServer() {
  const [, redraw] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    listeners.add(redraw);
    redraw();
    return () => listeners.delete(redraw);
  }, []);
  return state;
}

export const nameOf = (context) => context.name ?? context.id;

// Polls, once for the whole page, as long as the page is seen.
let timer = null;
export async function refresh() {
  clearTimeout(timer);
  if (!document.hidden) {
    // Someone who declined to give a key is asked again only when they do something.
    const quiet = state.error?.status === 401;
    try {
      const [status, contexts] = await Promise.all([
        call("GET", "/v1/status", { quiet }),
        call("GET", "/v1/contexts", { quiet }),
      ]);
      state.status = status;
      state.contexts = contexts.data;
      state.error = null;
      noticeChanges();
    } catch (error) {
      state.error = error;
    }
    changed();
  }
  clearTimeout(timer);
  const busy = state.contexts?.some(isComing);
  timer = setTimeout(refresh, busy ? BUSY : IDLE);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});

export function retry() {
  state.error = null;
  return refresh();
}

// Whether it is being encoded, or brought back from disk.
export const isComing = ({ status }) => status === "encoding" || status === "restoring";

// Whether a question to it is answered: one on disk comes back when it is asked.
export const canBeAsked = ({ status }) => ["ready", "stored", "restoring"].includes(status);

// Another client may edit, rename or delete the context that is open here.
function noticeChanges() {
  const mine = state.open && state.contexts.find((context) => context.id === state.open.id);
  if (!state.open || following) return;
  if (!mine) {
    state.open = null;
    state.openError = new ApiError(404, { message: "This context has been deleted or given up." });
  } else if (["status", "tokens", "created", "seconds"].some((k) => mine[k] !== state.open[k])) {
    openContext(mine.id);
  } else {
    state.open = { ...state.open, ...mine, blocks: state.open.blocks };
  }
}

// Opens the context `id` (null: none) and follows its encoding.
export async function openContext(id) {
  wanted = id;
  if (state.open?.id !== id) {
    stopFollowing();
    Object.assign(state, { open: null, openError: null, editError: null, eta: null });
    changed();
  }
  if (id === null) return;
  try {
    const context = await call("GET", contextPath(id));
    if (wanted === id) setOpen(context);
  } catch (error) {
    if (wanted === id) Object.assign(state, { open: null, openError: error });
    changed();
  }
}

// Takes a context as the server answered it, after a change made here or by opening it.
export function setOpen(context) {
  if (wanted !== context.id) return;
  Object.assign(state, { open: context, openError: null });
  if (isComing(context)) {
    state.editError = null;
    follow(context.id);
  }
  changed();
}

// An edit is answered when it is encoded. Until `edit` settles, looks for its beginning, so that it
// is followed like any other encoding.
export async function watchEdit(id, edit) {
  let over = false;
  const end = () => { over = true; };
  edit.then(end, end);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    if (over || wanted !== id || state.open?.status !== "ready") return;
    await openContext(id);
  }
}

function stopFollowing() {
  following?.abort();
  following = null;
}

async function follow(id) {
  stopFollowing();
  const mine = new AbortController();
  following = mine;
  let last = null;
  try {
    while (!mine.signal.aborted) {
      try {
        const response = await stream("GET", contextPath(id, "events"), {
          signal: mine.signal,
          headers: last === null ? {} : { "Last-Event-ID": last },
        });
        for await (const { id: number, type, data } of events(response)) {
          last = number ?? last;
          apply(id, type, JSON.parse(data));
          if (type === "ready") return;
          if (type === "failed") {
            // After an edit that failed the server still has what was there before.
            if (!mine.signal.aborted) setOpen(await call("GET", contextPath(id)));
            return;
          }
        }
      } catch (error) {
        if (mine.signal.aborted || error.status >= 400) throw error;
      }
      // The connection broke off: the next one continues behind the last event that came.
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  } catch (error) {
    if (!mine.signal.aborted) state.error = error;
  } finally {
    if (following === mine) following = null;
    refresh();
  }
}

function apply(id, type, data) {
  const open = state.open;
  if (open?.id !== id) return;
  if (type === "planned") {
    const { blocks, tokens, predicted_seconds } = data;
    // After an edit the cells that are shown know more: why each block is encoded again.
    const known = new Map(open.blocks?.map((cell) => [cell.index, cell.change]));
    state.open = {
      ...open,
      tokens,
      predicted_seconds,
      blocks: blocks.map((cell) => ({ ...cell, change: cell.change ?? known.get(cell.index) })),
    };
  } else if (type === "progress") {
    state.open = { ...open, progress: data.progress };
    state.eta = data.eta_seconds;
  } else if (type === "block") {
    state.open = {
      ...open,
      blocks: open.blocks.map((cell) =>
        cell.index === data.index ? { ...cell, ...data } : cell),
    };
  } else if (type === "ready") {
    state.open = data;
    state.eta = null;
    announce(`${nameOf(data)} is encoded.`);
  } else if (type === "failed") {
    state.editError = data.error;
    state.eta = null;
  }
  changed();
}
