// Calls of the server: JSON both ways, errors in the server's own words, the API key, and streams
// of server-sent events read with fetch (EventSource can neither POST nor send a key).

const KEY = "asterism.key";

export class ApiError extends Error {
  // `status` is HTTP's, 0 where no answer came; `code` and `param` are the server's.
  constructor(status, { message, code = null, param = null }) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

// Who asks for the key: a function from the server's message to a promise of true (there is a new
// key) or false (the reader declined). The page sets it.
let askForKey = async () => false;
let asking = null;

export function onKeyWanted(ask) {
  askForKey = ask;
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

// One question for any number of calls that were refused, and none where another call's key
// has come meanwhile.
function newKey(message, used) {
  if (sessionStorage.getItem(KEY) !== used) return true;
  asking ??= askForKey(message).finally(() => { asking = null; });
  return asking;
}

async function errorOf(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error } = JSON.parse(text);
    if (error?.message) return new ApiError(response.status, error);
  } catch {
    // Not one of the server's errors: a proxy's page, perhaps. Its status is all there is to say.
  }
  return new ApiError(response.status, {
    message: `The server answered ${response.status} ${response.statusText}`.trim(),
  });
}

async function send(method, path, { body, headers, signal, quiet = false } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    let response;
    try {
      response = await fetch(path, {
        method,
        signal,
        headers: {
          ...headers,
          ...(body !== undefined && { "Content-Type": "application/json" }),
          ...(key && { Authorization: `Bearer ${key}` }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, { message: "The server cannot be reached.", code: "unreachable" });
    }
    if (response.ok) return response;
    const error = await errorOf(response);
    if (response.status !== 401 || quiet || !(await newKey(error.message, key))) throw error;
  }
}

export const stream = send;

// `quiet`: a refused key is an error, and nobody is asked for another.
export async function call(method, path, options) {
  const response = await send(method, path, options);
  return response.json();
}

// The path of a context or of something in it: names are the user's and may hold anything.
export function contextPath(id, ...rest) {
  return ["/v1/contexts", id, ...rest.map(String)]
    .map((part, at) => (at === 0 ? part : encodeURIComponent(part)))
    .join("/");
}

// The events of a response, each `{id, type, data}` with `data` a string. Comments (`: ping`) keep
// a connection alive and say nothing.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: null, type: "message", data: [] };
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const raw of lines) {
        const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
        if (line === "") {
          if (event.data.length) yield { ...event, data: event.data.join("\n") };
          event = { id: event.id, type: "message", data: [] };
          continue;
        }
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "data") event.data.push(text);
        else if (field === "event") event.type = text;
        else if (field === "id") event.id = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
