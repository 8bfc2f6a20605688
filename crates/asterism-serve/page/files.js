// Documents out of dropped files and folders: text, each under a name of its own.

import { call } from "./api.js";

// The files of a drop: folders are walked, hidden files and folders left out.
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) {
    return [...transfer.files].map((file) => ({ name: file.name, file }));
  }
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function walk(entry, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ name: entry.fullPath.replace(/^\//, ""), file });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A reader gives some entries at a time, and none at the end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const child of some) await walk(child, found);
  }
}

// Reads files into `{documents: [{name, text}], refused: [sentence]}`: what is no text in UTF-8 is
// read by the server. What it cannot read is refused with its name; what is to be known of a file
// stands there as well.
export async function readDocuments(files, taken) {
  const names = new Set(taken);
  const documents = [];
  const refused = [];
  for (const { name, file } of files) {
    try {
      let text = FOREIGN.test(name) ? null : utf8(await file.arrayBuffer());
      if (text === null) {
        const read = await call("POST", "/v1/documents", { body: { name, data: await base64(file) } });
        ({ text } = read);
        refused.push(...read.notes.map((note) => `${name}: ${note}.`));
      }
      if (text.trim() === "") refused.push(`${name} is empty.`);
      else documents.push({ name: freeName(name, names), text });
    } catch (error) {
      const known = error.message.includes(name);
      refused.push(known ? `${error.message}.` : `${name} could not be read: ${error.message}`);
    }
  }
  return { documents, refused };
}

// Files that are no plain text, even if they look like it.
const FOREIGN = /\.(pdf|docx|docm|epub|html?|xhtml)$/i;

// The text of bytes in UTF-8; null if they are of something else.
function utf8(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return text.includes("\0") || /^(%PDF-|PK\x03\x04|\s*<(!doctype )?html)/i.test(text) ? null : text;
  } catch {
    return null;
  }
}

async function base64(file) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
  return url.slice(url.indexOf(",") + 1);
}

// What a context of this document may be called: its name without folders and ending, and without
// the signs that addresses are made of.
export function contextName(name) {
  const stem = name.split("/").pop().replace(/\.[^.]*$/, "") || name;
  return stem.replace(/[\\/?#%]/g, "-").trim().slice(0, 60);
}

// `name`, or "name (2)" where another document has it.
export function freeName(name, names) {
  let free = name;
  for (let n = 2; names.has(free); n += 1) free = name.replace(/(\.[^.]*)?$/, ` (${n})$1`);
  names.add(free);
  return free;
}
