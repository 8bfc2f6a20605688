// The conversation with a context: its questions in order, and the one that is being answered.
// Answers go on while another part of the page is shown; a reload cuts them off and says so.

import { chat } from "./chat.js";
import { announce } from "./dialog.js";
import { read, useKept, write } from "./kept.js";

// A turn: {id, question, settings (the request's), state, text, progress, first, finish, timings,
// asterism, error}; its state is "asking", "done", "stopped", "failed" or "cut" (by a reload).
const running = new Map();
const keyOf = (context) => `talk:${context}`;

function change(context, id, part) {
  write(keyOf(context), (turns) =>
    turns.map((turn) => (turn.id === id ? { ...turn, ...part } : turn)), []);
}

// The turns of `context`. A turn that nobody is answering was cut off by a reload.
export function useTalk(context) {
  const [turns] = useKept(keyOf(context), []);
  return turns.map((turn) =>
    turn.state === "asking" && !running.has(turn.id) ? { ...turn, state: "cut" } : turn);
}

// The messages of a question: those before it that were answered, if `history`.
function messagesOf(turns, question, history) {
  const before = history ? turns.filter((turn) => turn.state === "done") : [];
  return [
    ...before.flatMap((turn) => [
      { role: "user", content: turn.question },
      { role: "assistant", content: turn.text },
    ]),
    { role: "user", content: question },
  ];
}

export async function ask(context, question, settings, history) {
  const id = crypto.randomUUID?.() ?? String(Math.random());
  const messages = messagesOf(read(keyOf(context), []), question, history);
  const abort = new AbortController();
  running.set(id, abort);
  write(keyOf(context), (turns) =>
    [...turns, { id, question, settings, state: "asking", text: "", progress: null }], []);
  announce("Answering.");
  try {
    const answer = await chat({
      model: context,
      messages,
      settings,
      signal: abort.signal,
      onProgress: (progress) => change(context, id, { progress }),
      onText: (text, first) => change(context, id, { text, first, progress: null }),
    });
    change(context, id, { ...answer, state: "done", progress: null });
    announce(`Answer: ${answer.text}`);
  } catch (error) {
    const stopped = abort.signal.aborted;
    const { message, code, param } = error;
    change(context, id, stopped ? { state: "stopped", progress: null }
      : { state: "failed", progress: null, error: { message, code, param } });
    announce(stopped ? "Stopped." : "The question failed.");
  } finally {
    running.delete(id);
  }
  return id;
}

export function stop(id) {
  running.get(id)?.abort();
}

export function forget(context, id) {
  stop(id);
  write(keyOf(context), (turns) => turns.filter((turn) => turn.id !== id), []);
}

export function forgetAll(context) {
  for (const turn of read(keyOf(context), [])) stop(turn.id);
  write(keyOf(context), undefined);
}
