// Chats, streams and a context through the official client for Node.
import OpenAI from "openai";
import assert from "node:assert";

const url = process.env.ASTERISM_URL;
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const question = "What is the access code for the Lisbon vault?";
const prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(40);
const book = `${prose}The access code for the Lisbon vault is 48213. ${prose}`;
const messages = [{ role: "user", content: `${book}\n\n${question}` }];

const answer = await client.chat.completions.create({ model: "nano", messages, max_tokens: 24 });
assert.match(answer.choices[0].message.content, /48213/);

const stream = await client.chat.completions.create(
  { model: "nano", messages, max_tokens: 24, stream: true, return_progress: true });
let text = "";
for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
assert.match(text, /48213/);

const helper = client.chat.completions.stream({ model: "nano", messages, max_tokens: 24 });
assert.match(await helper.finalContent(), /48213/);

const made = await fetch(`${url}/v1/contexts`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ name: "node", text: book, wait: true }),
});
assert([201, 409].includes(made.status), await made.text());
const asked = [{ role: "user", content: question }];
const about = await client.chat.completions.create({ model: "node", messages: asked, max_tokens: 24 });
assert.match(about.choices[0].message.content, /48213/);
await assert.rejects(
  client.chat.completions.create({ model: "nobody", messages: asked }),
  (error) => error.status === 404 && error.code === "model_not_found");
console.log("client.mjs: 5 passed, 0 failed");
