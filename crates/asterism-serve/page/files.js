// Documents out of dropped files and folders: UTF-8 text, each under a name of its own.

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

// Reads files into `{documents: [{name, text}], refused: [sentence]}`: what is not text is refused
// with its name, never mangled.
export async function readDocuments(files, taken) {
  const names = new Set(taken);
  const documents = [];
  const refused = [];
  for (const { name, file } of files) {
    try {
      const buffer = await file.arrayBuffer();
      const text = new TextDecoder("utf-8", { fatal: true }).decode(buffer);
      if (text.includes("\0")) refused.push(`${name} is not text.`);
      else if (text.trim() === "") refused.push(`${name} is empty.`);
      else documents.push({ name: freeName(name, names), text });
    } catch (error) {
      refused.push(error instanceof TypeError ? `${name} is not UTF-8 text.`
        : `${name} could not be read: ${error.message}`);
    }
  }
  return { documents, refused };
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
