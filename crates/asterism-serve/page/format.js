// Numbers, sizes and times as people read them.

const whole = new Intl.NumberFormat("en-US");

export const count = (n) => whole.format(Math.round(n));

// "1 block", "30 blocks".
export const many = (n, thing) => `${count(n)} ${thing}${n === 1 ? "" : "s"}`;

// Tokens of a setting: 4096 is "4K", 1000 is "1,000".
export const size = (n) => (n >= 1024 && n % 1024 === 0 ? `${n / 1024}K` : count(n));

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) {
    n /= 1024;
    at += 1;
  }
  return `${n < 10 && at > 0 ? n.toFixed(1) : Math.round(n)} ${units[at]}`;
}

export function seconds(s) {
  if (s < 0.01) return `${(s * 1000).toFixed(1)} ms`;
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 100) return `${s.toFixed(s < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 100) return `${minutes} min ${Math.round(s % 60)} s`;
  return `${(s / 3600).toFixed(1)} h`;
}

export function flops(n) {
  const units = ["", "K", "M", "G", "T", "P", "E"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) {
    n /= 1000;
    at += 1;
  }
  return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${units[at]}FLOP`;
}

export const percent = (share) => (share > 0 && share < 0.01 ? "<1%" : `${Math.round(share * 100)}%`);

export const rate = (n) => `${n < 10 ? n.toFixed(1) : count(n)} tokens/s`;

// A source's share: what the question gave it beyond what a question that asks nothing gives, so
// that it has a sign.
export const beyond = (share) => `${share < 0 ? "−" : "+"}${Math.abs(100 * share).toFixed(1)}%`;

// A moment in unix seconds, as the distance from now: "in 9 min", "2 h ago".
export function distance(unix, now = Date.now() / 1000) {
  const apart = Math.abs(unix - now);
  const [n, unit] = apart < 90 ? [apart, "s"] : apart < 5400 ? [apart / 60, "min"]
    : apart < 129600 ? [apart / 3600, "h"] : [apart / 86400, "days"];
  const words = `${Math.round(n)} ${unit}`;
  return unix > now ? `in ${words}` : `${words} ago`;
}

// "4096", "4,096" and "4k" (times 1,024) are tokens; null is not.
export function parseTokens(text) {
  const match = /^\s*(\d[\d,_]*)\s*([km]?)\s*$/i.exec(text);
  if (!match) return null;
  const scale = { "": 1, k: 1024, m: 1024 * 1024 }[match[2].toLowerCase()];
  return Number(match[1].replace(/[,_]/g, "")) * scale;
}

// The server counts characters (Unicode's), JavaScript UTF-16 units: the index in `text` of the
// character number `at`.
export function indexOfCharacter(text, at) {
  let index = 0;
  for (let seen = 0; seen < at && index < text.length; seen += 1) {
    index += text.codePointAt(index) > 0xffff ? 2 : 1;
  }
  return index;
}
