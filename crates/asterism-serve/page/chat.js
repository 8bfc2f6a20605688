// One streamed answer: a chat completion of a context, with progress, sources and timings.

import { ApiError, events, stream } from "./api.js";

// Asks `messages` of the context `model`. `settings` are the request's own fields (method, block,
// max_tokens, …). Calls `onProgress({share, phase, eta})` (share 0 to 1, eta in seconds or null)
// before the first text and `onText(all text so far, seconds until the first of it)` with each
// piece. Resolves to {text, first, finish, timings, asterism}: `first` in seconds, the rest as the
// server says it. Aborting `signal` drops the connection, which cancels the answer.
export async function chat({ model, messages, settings = {}, signal, onProgress, onText }) {
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  const response = await stream("POST", "/v1/chat/completions", {
    signal,
    body: { model, messages, ...settings, stream: true, return_progress: true, sources: true },
  });
  let text = "";
  let first = null;
  let last = null;
  for await (const { data } of events(response)) {
    if (data === "[DONE]") {
      if (last) return { text, first, ...last };
      break;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(200, chunk.error);
    const choice = chunk.choices?.[0];
    if (chunk.prompt_progress && first === null) {
      const { total, cache, processed } = chunk.prompt_progress;
      const eta = chunk.asterism?.eta_ms;
      onProgress({
        share: total > cache ? (processed - cache) / (total - cache) : 1,
        phase: chunk.asterism?.phase ?? "encoding",
        eta: eta == null ? null : eta / 1000,
      });
    }
    if (choice?.delta?.content) {
      first ??= seconds();
      text += choice.delta.content;
      onText(text, first);
    }
    if (choice?.finish_reason) {
      last = {
        finish: choice.finish_reason,
        timings: chunk.timings ?? null,
        asterism: chunk.asterism ?? null,
      };
    }
  }
  throw new ApiError(0, { message: "The connection ended before the answer did.", code: "cut" });
}
