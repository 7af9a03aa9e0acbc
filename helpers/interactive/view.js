// @ts-check
// How much each word of a sentence moves each other word. Python sends numbers; what is chosen,
// coloured and drawn is made here. First the pure functions, from numbers and settings to what is
// to be drawn; then the page. `model` is anywidget's, or in a page without a kernel the object in
// page.html. Matrices are [target][source].

/** @typedef {number[][]} Matrix */
/** @typedef {{text: string, at: number[], nth: number, special: boolean, sign: string,
 *   apart?: boolean}} Word `apart`: the second text of a pair begins with it */
/** @typedef {{id: number | "all", name: string, values: Matrix, errors?: Matrix | null,
 *   other?: Matrix | null}} Panel */
/** @typedef {{low: number, least: number, high: number}} Scale */
/** @typedef {{i: number, value: number, share: number, far: number | null}} Moved */
/** @typedef {{x: number, y: number, w: number, h: number}} Box */
/** @typedef {{d: string, tip: string, width: number}} Line */
/** @typedef {{word?: number, text?: string, kind?: string}} Part a word by its place, or text */
/** @typedef {{t: number, s: number, before: number, after: number}} Change */
/** @typedef {Record<string, any>} Ui what one view on the page holds; see `render` */
const SIGNS = { ",": "comma", ".": "full stop", "?": "question mark", "!": "exclamation mark",
  ":": "colon", ";": "semicolon", "-": "hyphen", "'": "apostrophe", "\"": "quotation mark" };
const COUNTS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
  "eleven", "twelve"];
const CHANGES = { // less, equal, more: the middle is close to the paper
  light: ["2166ac", "67a9cf", "d1e5f0", "f6f3ee", "fddbc7", "ef8a62", "b2182b"],
  dark: ["7fbdf0", "3d7fb5", "27455e", "262226", "5e3325", "c05a35", "ff9d73"] };
const GLOSSES = { value: "what it says", key: "how much it is heard", query: "what is asked",
  interference: "where the paths meet", residual: "it stays itself" };
const NUMBERS = ["text", "second", "method", "samples", "sigma"]; // what `data.of` is made from
const SHOWN = 64; // words at a time

// ------------------------------------------------------------------------------ numbers in words
/** @param {string[]} stops @returns {number[][]} 256 colours, [red, green, blue], along them */
function ramp(stops) {
  const last = stops.length - 1;
  const part = (k, c) => parseInt(stops[k].slice(2 * c, 2 * c + 2), 16);
  return Array.from({ length: 256 }, (_, i) => {
    const place = i / 255 * last, k = Math.min(Math.floor(place), last - 1), over = place - k;
    return [0, 1, 2].map(c => Math.round(part(k, c) * (1 - over) + part(k + 1, c) * over));
  });
}
/** @param {string | null | undefined} text base64 of little-endian float32 */
const floats = text => text
  ? new Float32Array(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer) : null;
/** Three digits; small ones as a power of ten. @param {number} value */
function digits(value) {
  if (Number.isNaN(value)) return "not measured";
  if (!value || Math.abs(value) >= 1e-3)
    return String(Number(value.toPrecision(3))).replace("-", "−");
  const [front, power] = value.toExponential(0).split("e");
  return `${front.replace("-", "−")} × 10${power.replace("-", "⁻").replace("+", "")
    .replace(/\d/g, digit => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)])}`;
}
/** A distance. @param {any} value */
const two = value => value < 0.001 ? "0.00" : value < 1 ? value.toPrecision(2)
  : String(Number(value.toPrecision(3)));
const percent = share => share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
const count = n => COUNTS[n] || String(n);
const nth = n => n + (["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] || "th");
/** A word inside a sentence of English, whichever way its own letters run. @param {Word} word */
const spoken = word => `\u2068${word.sign ? `the ${word.sign}` : word.text}\u2069`
  + (word.nth ? ` (${nth(word.nth)})` : "");

// ---------------------------------------------------------------------------- words and matrices
/** The words that are shown: pieces joined or not, 64 around position `around`. `start` is where
 * the last window began: it stays while `around` is inside.
 * @param {any} data @param {any} settings @param {number} around @param {number} [start]
 * @returns {{words: Word[], start: number, total: number}} */
function wordsOf(data, settings, around, start = 0) {
  const special = new Set(data.special);
  let all = settings.words ? data.words : data.tokens.map((token, i) => [token, [i]]);
  if (!settings.special && special.size < data.tokens.length)
    all = all.filter(([, at]) => !special.has(at[0]));
  const middle = Math.max(all.findIndex(([, at]) => at.includes(around)), 0);
  if (middle < start || middle >= start + SHOWN) start = middle - SHOWN / 2;
  start = Math.max(0, Math.min(start, all.length - SHOWN));
  const seen = new Map(), many = new Map();
  for (const [text] of all) many.set(text, (many.get(text) || 0) + 1);
  const words = all.map(([text, at]) => {
    seen.set(text, (seen.get(text) || 0) + 1);
    return { text, at, nth: many.get(text) > 1 ? seen.get(text) : 0, special: special.has(at[0]),
      sign: Object.hasOwn(SIGNS, text) ? SIGNS[text] : "", apart: data.apart?.includes(at[0]) };
  });
  return { words: words.slice(start, start + SHOWN), start, total: all.length };
}
/** The squared norm of a block of several pieces is the sum of theirs.
 * @param {Float32Array} flat @param {number} size @param {number} layer @param {number[]} ts
 * @param {number[]} ss */
function block(flat, size, layer, ts, ss) {
  let sum = 0;
  for (const t of ts) for (const s of ss) sum += flat[(layer * size + t) * size + s];
  return sum;
}
/** @param {Float32Array | null} flat @param {number} size @param {number} layer
 * @param {Word[]} words @returns {Matrix | null} */
const matrix = (flat, size, layer, words) => flat
  && words.map(({ at: ts }) => words.map(({ at: ss }) => block(flat, size, layer, ts, ss)));
/** One for every layer, and the last for the way through all of them.
 * @param {any} data @param {any} through @param {any} second @param {Word[]} words
 * @returns {Panel[]} */
function panelsOf(data, through, second, words) {
  const size = data.tokens.length;
  const flat = [data.values, data.stderr, second.values].map(floats);
  const panels = data.layers.map((name, id) => {
    const [values, errors, other] = flat.map(one => matrix(one, size, id, words));
    return { id, name, values, errors, other };
  });
  if (!through.values) return panels;
  const [values, errors, other] = [through.values, through.stderr, second.through]
    .map(text => matrix(floats(text), size, 0, words));
  return [...panels, { id: "all", name: "through all layers", values, errors, other }];
}
/** One scale for all layers: four decades at most. @param {Panel[]} panels @param {boolean} own
 * @returns {Scale} */
function scaleOf(panels, own) {
  let least = Infinity, high = 0;
  for (const { values } of panels) values.forEach((row, t) => row.forEach((value, s) => {
    if (!(value > 0) || (t === s && !own)) return;
    least = Math.min(least, value);
    high = Math.max(high, value);
  }));
  if (!high) least = high = 1;
  return { least, high, low: least === high ? high / 10 : Math.max(least, high / 1e4) };
}
/** Where on the scale, 0 to 1. @param {number} value @param {Scale} scale @param {boolean} log */
function place(value, { low, high }, log) {
  const at = log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : value / high;
  return Math.min(Math.max(at, 0), 1);
}
/** The ends of a layer's colours for changes, in powers of two, and how many cells lie beyond.
 * @param {Panel} panel @param {boolean} own @returns {{end: number, beyond: number, of: number}} */
function spreadOf({ values, other }, own) {
  const seen = values.flatMap((row, t) => row.map((value, s) => t === s && !own ? NaN
    : Math.abs(Math.log2((other?.[t][s] ?? NaN) / value)))).filter(Number.isFinite)
    .sort((a, b) => a - b);
  const high = seen[Math.floor(0.95 * (seen.length - 1))] || 0, end = Math.max(high, 0.1);
  return { end, beyond: seen.filter(value => value > end * 1.0001).length, of: seen.length };
}
/** What the word sends (its column) or receives (its row).
 * @param {Matrix} values @param {number} word @param {boolean} sends @returns {number[]} */
const list = (values, word, sends) => sends ? values.map(row => row[word]) : values[word];
/** The others, largest first, with their share of the sum and how far they move for a push of 1.
 * @param {number[]} values @param {number} word @param {number | null} hidden
 * @returns {Moved[]} */
function ranked(values, word, hidden) {
  const sum = values.reduce((all, value, i) => all + (i !== word && value > 0 ? value : 0), 0) || 1;
  const far = value => hidden ? Math.sqrt(value / hidden) : null;
  return values.map((value, i) => ({ i, value, share: value / sum, far: far(value) }))
    .filter(({ i, value }) => i !== word && value > 0).sort((a, b) => b.value - a.value);
}
/** Three, and up to `most` while they have a fifth of the largest.
 * @param {Moved[]} order @param {number} most */
const leading = (order, most) =>
  order.filter(({ value }, k) => k < 3 || (k < most && value >= 0.2 * order[0].value));
/** The pairs that change most between two, in how far they move (or, without `hidden`, in value).
 * @param {Panel} panel @param {Word[]} words @param {number | null} hidden @returns {Change[]} */
function changesOf({ values, other }, words, hidden) {
  if (!other) return [];
  const far = value => hidden ? Math.sqrt(value / hidden) : value, found = [];
  values.forEach((row, t) => row.forEach((value, s) => {
    if (t === s || words[t].special || words[s].special) return;
    const change = { t, s, before: far(value), after: far(other[t][s]) };
    if (change.after >= 0 && change.before >= 0) found.push(change);
  }));
  const size = ({ before, after }) => Math.abs(after - before);
  return found.sort((a, b) => size(b) - size(a)).slice(0, 3).filter(size);
}
/** The first sentence's words and the second's, side by side.
 * @param {Word[]} words @param {any} second `tokens` and `columns`, pairs of positions or null
 * @returns {{word: number | null, text: string, other: string, swapped: boolean}[]} */
function aligned(words, second) {
  const columns = words.map((word, i) => ({ word: i, text: word.text, other: "", swapped: false }));
  const found = [], done = new Set();
  let last = -1;
  for (const [a, b] of second.columns) {
    const word = a === null ? -1 : words.findIndex(({ at }) => at.includes(a));
    const other = b === null ? "" : second.tokens[b];
    if (a === null) {
      if (last >= 0 || !done.size) found.push({ word: null, text: "", other, swapped: true });
      continue;
    }
    last = word;
    if (word < 0) continue;
    const column = columns[word];
    column.other += column.other ? other.replace(/^##/, "") : other;
    if (!done.has(word)) found.push(column);
    done.add(word);
  }
  for (const column of columns) column.swapped = column.text !== column.other;
  return found;
}
/** Whether a text runs from right to left: by its first letter. @param {Word[]} words */
function directionOf(words) {
  const text = words.filter(({ special }) => !special).map(word => word.text).join(" ");
  const [first = ""] = /\p{L}/u.exec(text) || [];
  return /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/.test(first) ? "rtl" : "ltr";
}

// --------------------------------------------------------------------------- what is said of them
/** The answer in words. @param {Word[]} words @param {number} word @param {Moved[]} order
 * @param {boolean} sends @param {{label: string, measured: boolean}} about
 * @returns {{parts: Part[], under: Part[]}} */
function headline(words, word, order, sends, { label, measured }) {
  const mine = { word, kind: "chosen" }, [best] = order;
  if (!measured) return { parts: [{ text: "Not measured: what " },
    ...(sends ? [mine, { text: " moves" }] : [{ text: "moves " }, mine])], under: [] };
  if (!best) return { parts: [...(sends ? [mine, { text: " moves nothing" }]
    : [{ text: "Nothing moves " }, mine])], under: [] };
  const first = { word: best.i, kind: "best" };
  const parts = label ? [{ text: `In the ${sends ? "column" : "row"} of ` }, mine,
    { text: `, ${label} is largest in the ${sends ? "row" : "column"} of ` }, first]
    : sends ? [mine, { text: " moves " }, first, { text: " most" }]
    : [mine, { text: " is moved most by " }, first];
  const away = Math.abs(best.i - word), [from, to] = sends ? [word, best.i] : [best.i, word];
  const where = away === 1 ? "Right beside it" : `${count(away)} places away`;
  /** @type {Part[]} */
  const under = [{ text: `${where[0].toUpperCase()}${where.slice(1)}` }];
  if (best.far === null) under.push({ text: `; ${label || "influence"} ${digits(best.value)}.` });
  else under.push({ text: ", " }, { word: to }, { text: ` moves ${two(best.far)} as far as ` },
    { word: from }, { text: " was pushed." });
  return { parts, under };
}
/** What two sentences, or two models, differ in most. @param {Word[]} words @param {Change[]} found
 * @param {{text: string, other: string, swapped: boolean, word: number | null}[]} columns
 * @param {string[]} names @param {boolean} far @returns {Part[]} */
function comparison(words, found, columns, names, far) {
  const [best] = found, end = far ? " as far" : "";
  if (!best) return [{ text: `In ${names[1]} nothing changes` }];
  const swaps = columns.filter(({ swapped }) => swapped), [swap] = swaps;
  const ratio = { text: `× ${digits(Number((best.after / best.before).toPrecision(2)))}`,
    kind: "best" };
  const one = swaps.length === 1 && swap.text && swap.other;
  const front = one ? [{ text: "With " }, { text: swap.other, kind: "chosen" }, { text: " for " },
    { text: swap.text, kind: "chosen" }, { text: ", " }] : [{ text: `In ${names[1]}, ` }];
  const name = i => one && swap.word === i ? { text: "it" }
    : { word: i, kind: "chosen", text: "" };
  return [...front, name(best.s), { text: " moves " }, name(best.t), { text: " " }, ratio,
    { text: end }];
}
/** One pair in words. @param {Panel} panel @param {Word[]} words @param {number} t
 * @param {number} s @param {string} [name] of the second */
function says(panel, words, t, s, name = "") {
  const value = panel.values[t][s], error = panel.errors?.[t][s] ?? 0;
  const other = name && panel.other ? panel.other[t][s] : NaN;
  const order = ranked(panel.values[t], t, null), rank = order.findIndex(({ i }) => i === s) + 1;
  return `${spoken(words[s])} → ${spoken(words[t])}: ${digits(value)}`
    + (error > 0 ? ` ± ${digits(error)}` : "")
    + (other >= 0 ? `, in ${name} ${digits(other)} (× ${digits(other / value)})` : "")
    + (t === s ? ", its own position" : rank ? `, ${nth(rank)} of ${order.length} sources` : "");
}
/** The paths as one bar: what adds, and what interference takes away or gives.
 * @param {{name: string, value: number}[]} parts */
function stacked(parts) {
  const full = parts.reduce((sum, { value }) => sum + Math.max(value, 0), 0) || 1;
  let end = 0;
  return parts.map(({ name, value }) => {
    const size = Math.abs(value) / full, start = value < 0 ? end - size : end;
    end += value / full;
    return { name, value, start, size };
  });
}
/** The heads, largest first. @param {number[]} values of one pair */
function headsOf(values) {
  const order = values.map((value, head) => ({ head, value })).sort((a, b) => b.value - a.value);
  const high = order[0]?.value || 1;
  return order.map(bar => ({ ...bar, size: bar.value / high }));
}
/** The Python call that brings a view back. @param {any} data @param {any} settings
 * @param {any[]} selected */
function callOf(data, settings, [layer, target, source]) {
  const words = { true: "True", false: "False" }, { head, ...rest } = settings;
  const options = Object.entries({ ...rest, layer, target, source })
    .map(([name, value]) => `${name}=${words[value] || JSON.stringify(value)}`);
  return `${[data.call, ...options].join(", ")})`;
}
/** Where the numbers come from, as far as the influence knows it.
 * @param {any} data @param {string} layer @param {number | null} head */
function captionOf({ how, source }, layer, head) {
  const versions = ["torch", "transformers"].filter(name => how[name]);
  return [how.model, layer, head === null ? "" : `head ${head}`,
    how.method, how.samples ? `${how.samples} samples` : "",
    versions.map(name => `${name} ${how[name]}`).join(", "), source].filter(Boolean).join(" · ");
}
/** What is chosen, for the address of a page. @param {any} settings @param {any[]} selected */
const toHash = ({ head, ...settings }, [layer, target, source]) => String(new URLSearchParams(
  { layer, target, source, ...settings, ...(head >= 0 && head !== null ? { head } : {}) }));
/** The same back, as far as it fits what the page has; the rest as it is.
 * @param {string} hash @param {any} state @returns {{settings: any, selected: any[]}} */
function fromHash(hash, { data, settings, selected, through }) {
  const asked = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
  const known = { direction: ["sends", "receives"], drawing: ["arcs", "map", "lines"] };
  const found = { ...settings }, size = data.tokens.length, { head } = asked;
  for (const [name, was] of Object.entries(settings)) {
    if (known[name]?.includes(asked[name])) found[name] = asked[name];
    if (typeof was === "boolean" && asked[name]) found[name] = asked[name] === "true";
  }
  if (/^\d+$/.test(head || "")) found.head = Number(head);
  const whole = (text, below, or) => /^\d+$/.test(text) && Number(text) < below ? Number(text) : or;
  const layer = asked.layer === "all" && through.values ? "all"
    : whole(asked.layer, data.layers.length, selected[0]);
  return { settings: found, selected: [layer, whole(asked.target, size, selected[1]),
    whole(asked.source, size, selected[2])] };
}
/** What the numbers were made from, without what paths and the way through do not depend on.
 * @param {string} of */
function kin(of) {
  try {
    const list = JSON.parse(of);
    return JSON.stringify(list.filter((_, i) => NUMBERS[i] !== "second"));
  } catch { return of; }
}
/** Whether what is on screen is the answer to other settings. @param {any} data
 * @param {any} settings */
function isStale({ of }, settings) {
  try {
    return JSON.parse(of).some((value, i) => i < NUMBERS.length && value !== settings[NUMBERS[i]]);
  } catch { return false; }
}

// ----------------------------------------------------------------------------- lines and pictures
/** @param {number} value */
const f = value => value.toFixed(1);
/** @param {number} x @param {number} end where it points @param {number} from @param {number} w */
const tipOf = (x, end, from, w) => `M${f(x)},${f(end)} L${f(x - 3 - w * 0.72)},${f(from)} `
  + `L${f(x + 3 + w * 0.72)},${f(from)} Z`;
/** An arch from (ax, ay) to (bx, by). @param {number} ax @param {number} ay @param {number} bx
 * @param {number} by @param {number} width @param {number} room over them @returns {Line} */
function arch(ax, ay, bx, by, width, room) {
  const high = Math.min(room, 32 + 0.22 * Math.abs(ax - bx)), lift = high / 0.75;
  const up = by - 8 - width * 0.8; // where the tip begins
  return { d: `M${f(ax)},${f(ay - 2)} C${f(ax)},${f(ay - 2 - lift)} ${f(bx)},${f(up - lift)} `
    + `${f(bx)},${f(up)}`, tip: tipOf(bx, by - 3, up, width), width };
}
/** Along a lane between two lines, with round corners. @param {number} ax @param {number} ay
 * @param {number} bx @param {number} by @param {number} width @param {number} lane
 * @returns {Line} */
function bend(ax, ay, bx, by, width, lane) {
  const into = Math.sign(by - lane) || 1, out = Math.sign(lane - ay) || 1;
  const start = ay + 2 * out, end = by - 3 * into, tip = end - into * (4 + width * 0.7);
  const way = Math.sign(bx - ax), r = Math.min(12, Math.abs(ax - bx) / 2, Math.abs(start - lane),
    Math.abs(tip - lane));
  return { d: `M${f(ax)},${f(start)} V${f(lane - out * r)} Q${f(ax)},${f(lane)} `
    + `${f(ax + way * r)},${f(lane)} H${f(bx - way * r)} Q${f(bx)},${f(lane)} `
    + `${f(bx)},${f(lane + into * r)} V${f(tip)}`, tip: tipOf(bx, end, tip, width), width };
}
/** The place and the lane on the chosen word of each arc, so that none crosses another. On each
 * side those to other lines come first, the nearest first; then those on the same line, the
 * farthest first. The first has the place nearest the middle and the lane farthest away.
 * @param {number[]} others @param {Box[]} boxes @param {number} word
 * @returns {Map<number, {x: number, lane: number, down: boolean}>} */
function portsOf(others, boxes, word) {
  const { x, y, w, h } = boxes[word], centre = i => boxes[i].x + boxes[i].w / 2;
  const middle = x + w / 2, rows = [...new Set(boxes.map(box => box.y))].sort((a, b) => a - b);
  const row = rows.indexOf(y), found = new Map(), level = i => boxes[i].y === y;
  const order = (a, b) => level(a) !== level(b) ? Number(level(a)) - Number(level(b))
    : (level(a) ? -1 : 1) * (Math.abs(centre(a) - middle) - Math.abs(centre(b) - middle));
  for (const down of [false, true]) {
    const mine = others.filter(i => (boxes[i].y > y) === down).sort(order);
    const left = mine.filter(i => centre(i) < middle), right = mine.filter(i => !left.includes(i));
    const ports = [...left.slice().reverse(), ...right];
    const gap = down ? rows[row + 1] - y - h : row > 0 ? y - rows[row - 1] - h : y;
    const step = Math.min(14, (w - 12) / (ports.length - 1 || 1));
    for (const side of [left, right]) side.forEach((i, k) => {
      const away = gap * (side.length - k) / (side.length + 1);
      found.set(i, { x: middle + step * (ports.indexOf(i) - (ports.length - 1) / 2), down,
        lane: down ? y + h + away : y - away });
    });
  }
  return found;
}
/** The arcs of the chosen word; width is how far, on one scale over the layers.
 * @param {Moved[]} shown @param {Box[]} boxes @param {number} word @param {boolean} sends
 * @param {number} top the largest value of this word @returns {(Line & {i: number})[]} */
function arcsOf(shown, boxes, word, sends, top) {
  const ports = portsOf(shown.map(({ i }) => i), boxes, word), mine = boxes[word];
  const wrapped = new Set(boxes.map(({ y }) => y)).size > 1;
  const widths = shown.map(({ value }) => 1.2 + (wrapped ? 6.8 : 10.8) * Math.sqrt(value / top));
  const fit = Math.min(1, mine.w / widths.reduce((sum, width) => sum + width + 2, 0));
  return shown.map(({ i }, k) => {
    const width = widths[k] * fit, box = boxes[i];
    const { x, lane, down } = ports.get(i) || { x: 0, lane: 0, down: false };
    const there = box.x + box.w / 2, leaves = down ? mine.y + mine.h : mine.y;
    const enters = box.y < mine.y ? box.y + box.h : box.y;
    const ends = sends ? [x, leaves, there, enters] : [there, enters, x, leaves];
    const [ax, ay, bx, by] = ends;
    const line = wrapped ? bend(ax, ay, bx, by, width, lane)
      : arch(ax, ay, bx, by, width, mine.y - 12);
    return { i, ...line };
  });
}
/** The pair over the layers on a logarithmic axis whose lines are decades.
 * @param {number[]} values of each tile @param {number} width @param {number} height
 * @param {number} gutter */
function trendOf(values, width, height, gutter) {
  const seen = values.filter(value => value > 0).map(Math.log10);
  const low = seen.length ? Math.floor(Math.min(...seen)) : 0;
  const high = seen.length ? Math.max(Math.ceil(Math.max(...seen)), low + 1) : 1;
  const [top, bottom, step] = [22, height - 8, (width - gutter) / values.length];
  const y = log => bottom - (bottom - top) * (log - low) / (high - low);
  const every = Math.ceil((high - low + 1) / 5), ticks = [];
  for (let power = low; power <= high; power += every)
    ticks.push({ y: y(power), text: digits(10 ** power) });
  return { step, ticks, points: values.map((value, k) => ({ k, x: gutter + step * (k + 0.5),
    y: value > 0 ? y(Math.log10(value)) : NaN, text: digits(value) })) };
}
/** Black or white, whichever stands out. @param {number[]} rgb */
function inkOn(rgb) {
  const [r, g, b] = rgb.map(part => (part / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}
/** @param {string} text */
const escaped = text => text.replace(/[&<>"]/g, sign => `&#${sign.charCodeAt(0)};`);
/** A picture as one svg file. @param {{width: number, height: number, paper: string,
 *   title: string, items: Record<string, any>[]}} p items: rect, path, text, each with its look */
function picture({ width, height, paper, title, items }) {
  const drawn = items.map(({ tag, text = "", ...look }) => `<${tag} ${Object.entries(look)
    .map(([name, value]) => `${name}="${escaped(String(value))}"`).join(" ")}>${
    escaped(text)}</${tag}>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${f(width)}" height="${f(height)}" `
    + `viewBox="0 0 ${f(width)} ${f(height)}" font-family="system-ui, sans-serif">`
    + `<title>${escaped(title)}</title><rect width="100%" height="100%" fill="${paper}"/>`
    + `${drawn.join("")}</svg>`;
}

// --------------------------------------------------------------------------------------- the page
const segments = (key, told, values) => `<div class="bv-segments" role="radiogroup"
  aria-label="${told}">${values.map(value => `<button role="radio" data-choice="${key}=${value}"
  data-key="${key} ${value}">${value}</button>`).join("")}</div>`;
const box = (key, text) => `<label><input type="checkbox" data-choice="${key}"> ${text}</label>`;
const SKELETON = `<div class="bv-input" data-at="input">
  <label>Sentence <input data-field="text" autocomplete="off" dir="auto"></label>
  <label>Compare with <input data-field="second" autocomplete="off" dir="auto"
    placeholder="a second sentence"></label>
  <details><summary>Advanced</summary>
    <label>Method <select data-field="method"><option>exact<option>jvp<option>noise</select></label>
    <label>Samples (of jvp, noise)
      <input data-field="samples" type="number" min="2" max="1000"></label>
    <label>σ (of noise) <input data-field="sigma" type="number" step="any"></label></details></div>
<div class="bv-status" data-at="status"><span></span><progress></progress>
  <button data-act="stop">stop</button><pre></pre></div>
<p class="bv-note" data-at="note" dir="auto"></p>
<header class="bv-head"><p class="bv-eyebrow" data-at="eyebrow"></p>
  <h2 class="bv-headline" data-at="headline" role="status" aria-live="polite"></h2>
  <p class="bv-under" data-at="under"></p></header>
<div class="bv-shares" data-at="shares"></div>
<p class="bv-window" data-at="window"><span></span> <button data-act="earlier">← earlier</button>
  <button data-act="later">later →</button></p>
<div class="bv-stage" data-at="stage"><svg class="bv-arcs" data-at="arcs" aria-hidden="true"></svg>
  <div class="bv-sentence" data-at="sentence" role="toolbar"
    aria-label="The sentence: choose a word"></div></div>
<div class="bv-controls">${segments("direction", "The chosen word", ["sends", "receives"])}
  ${segments("drawing", "Drawn as", ["arcs", "map", "lines"])}
  <details class="bv-display"><summary>Display</summary><div>${
    box("special", "special tokens")}${box("own", "own position, in the map")}${
    box("log", "logarithmic colours")}${box("words", "word pieces joined")}${
    box("difference", "what changes in the second")}</div></details>
  <span class="bv-hint" data-at="hint"></span></div>
<section class="bv-strip"><h3 data-at="pair"></h3><div class="bv-scroll"><div class="bv-aligned">
  <button class="bv-play" data-act="play" data-at="play" aria-pressed="false"></button>
  <div class="bv-layers" data-at="layers" role="toolbar" aria-label="Layers"></div>
  <svg class="bv-trend" data-at="trend" aria-hidden="true"></svg></div></div></section>
<div class="bv-body"><details class="bv-second" data-at="second"><summary data-at="drawn"></summary>
  <div class="bv-map" data-at="map" role="grid" aria-label="A row per target, a column per source">
  </div><svg class="bv-lines" data-at="lines" role="img" aria-label="Lines from the words that send,
  left, to those that receive, right"></svg><div class="bv-legend" data-at="legend"></div></details>
  <section class="bv-why" data-at="why"></section></div>
<footer class="bv-foot"><span data-at="caption"></span><span class="bv-export">Save as
  <button data-act="svg">SVG</button><button data-act="png">PNG</button>
  <button data-act="page">page</button><button data-act="copy">copy settings</button>
  <button data-act="reset">reset</button></span>
  <input class="bv-call" data-at="call" readonly hidden
    aria-label="The Python call that brings this view back"></footer>`;
const PLAY = "<svg viewBox='0 0 20 20' aria-hidden='true'><path d='M6 3.5v13l10.5-6.5z'/></svg>";
const PAUSE = "<svg viewBox='0 0 20 20' aria-hidden='true'><path d='M5 4h3.5v12H5zM11.5 4H15v12"
  + "h-3.5z'/></svg>";
const DRAWN = new Set(["svg", "g", "path", "text", "line", "circle", "polyline", "title"]);
/** @param {string} tag @param {Record<string, any>} [attributes] @param {...any} children
 * @returns {any} */
function make(tag, attributes = {}, ...children) {
  const node = DRAWN.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
/** @param {string} name @param {Blob} blob */
function download(name, blob) {
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
/** @param {string} page */
const save = page => download("view.html", new Blob([page], { type: "text/html" }));
/** A word as it is written everywhere: isolated, equal ones numbered, signs large.
 * @param {Word} word */
function written(word, told = false) {
  const kind = word.special ? "bv-special" : !told && /^[,.;:-]$/.test(word.text) ? "bv-sign" : "";
  return make("bdi", { class: kind }, told && word.sign ? `the ${word.sign}` : word.text,
    ...(word.nth ? [make("sub", {}, word.nth)] : []));
}
/** @param {Ui} ui @param {Part[]} parts */
const told = (ui, parts) => parts.map(({ word, text = "", kind }) => word === undefined && !kind
  ? text : make("b", { class: `bv-${kind || "word"}` },
    word === undefined ? text : written(ui.words[word], true)));
const focusedKey = () => /** @type {any} */ (document.activeElement)?.dataset?.key;
const isPrint = () => matchMedia("print").matches;
function isDark() {
  const { body, documentElement: page } = document;
  const known = page.dataset.theme || { true: "light", false: "dark" }[
    body.dataset.jpThemeLight || ""];
  return !isPrint() && (known ? known === "dark" : body.classList.contains("vscode-dark"));
}
// The numbers again, after another sentence or switch.
function derive(ui) {
  const { model, start } = ui, data = model.get("data"), settings = model.get("settings");
  const selected = model.get("selected"), sends = settings.direction === "sends";
  Object.assign(ui, { data, settings, dark: isDark(), painted: null, reasons: new Map() });
  Object.assign(ui, wordsOf(data, settings, selected[sends ? 2 : 1],
    ui.of === data.of ? start : 0), { of: data.of, hover: {} });
  const fits = key => kin(model.get(key)?.of) === kin(data.of) ? model.get(key) : {};
  ui.second = model.get("second").of === data.of ? model.get("second") : {};
  ui.panels = panelsOf(data, fits("through"), ui.second, ui.words);
  ui.comparing = Boolean(settings.difference && ui.second.values);
  ui.names = ui.second.names || ["the first", "the second"];
  ui.scale = scaleOf(ui.panels, settings.own);
  ui.partial = ui.panels.some(({ values }) => values.every(row => row.every(Number.isNaN)));
  ui.columns = ui.comparing ? aligned(ui.words, ui.second) : [];
  ui.hidden = data.how.hidden || null;
  ui.label = data.label.replace(/ \(.*\)$/, ""); // the legend has all of it
  const theme = ui.dark ? "dark" : "light";
  ui.colours = ramp(data.ramp[theme]);
  ui.changes = ramp(CHANGES[theme]);
  ui.root.classList.toggle("bv-dark", ui.dark);
  ui.root.classList.toggle("bv-comparing", ui.comparing);
}
/** The paths and heads of a layer, once they are there. */
function reasonOf(ui, id) {
  const { model, data, words, reasons } = ui, why = model.get("why");
  const part = kin(why.of) === kin(data.of) ? why.layers[id] : null;
  if (part && reasons.get(id)?.part !== part) {
    const size = data.tokens.length, heads = floats(part.heads);
    const value = (flat, layer, t, s) => block(flat, size, layer, words[t].at, words[s].at);
    const paths = Object.entries(part.paths).map(([name, text]) => ({ name, flat: floats(text) }));
    const maps = [];
    reasons.set(id, { part, heads: (t, s) => Array.from({ length: part.count }, (_, h) =>
      value(heads, h, t, s)), map: h => maps[h] ||= matrix(heads, size, h, words),
    paths: (t, s) => paths.filter(({ name }) => t === s || !["residual", "query"].includes(name))
      .map(({ name, flat }) => ({ name, value: value(flat, 0, t, s) })) });
  }
  return part ? reasons.get(id) : null;
}
// What is looked at now: the pointer goes before what was clicked.
function now(ui) {
  const { model, settings, words, panels, hover, hidden } = ui;
  const [chosen, target, source] = model.get("selected"), sends = settings.direction === "sends";
  const layer = hover.layer ?? chosen, found = panels.find(({ id }) => id === layer);
  const spot = position => Math.max(words.findIndex(({ at }) => at.includes(position)), 0);
  const [t, s] = [spot(target), spot(source)];
  const panel = found || { id: layer, name: "through all layers",
    values: words.map(() => words.map(() => NaN)) };
  const reason = reasonOf(ui, layer), head = hover.head ?? settings.head ?? null;
  const alone = reason && head !== null && head < reason.part.count ? head : null;
  const values = alone === null ? panel.values : reason.map(alone);
  const pair = hover.pair || [t, s];
  const word = hover.word ?? pair[sends ? 1 : 0], lists = list(values, word, sends);
  return { layer, found, panel, reason, head: alone, values, word, sends, t, s, pair, lists,
    order: ranked(lists, word, hidden), shown: alone === null ? panel : { ...panel, values,
      other: null, errors: null } };
}
/** A colour, or null where nothing is to be shown. @param {Ui} ui @param {Panel} panel
 * @param {number} t @param {number} s */
function shade(ui, { values, other }, t, s) {
  const { settings, scale } = ui, value = values[t][s];
  if (Number.isNaN(value) || (t === s && !settings.own)) return null;
  if (!ui.comparing || !other) return ui.colours[Math.round(255 * place(value, scale,
    settings.log))];
  const change = Math.log2(other[t][s] / value) / (2 * ui.spread.end);
  return Number.isNaN(change) ? null
    : ui.changes[Math.round(255 * Math.min(Math.max(0.5 + change, 0), 1))];
}
/** @param {any} node @param {number[] | null} rgb */
function dye(node, rgb) {
  node.style.background = rgb ? `rgb(${rgb})` : "";
  node.style.color = rgb ? inkOn(rgb) : "";
}
function drawHead(ui) {
  const { at, words, data, hidden } = ui;
  const { panel, head, word, order, sends, found, lists } = now(ui);
  const changes = ui.comparing && head === null ? changesOf(panel, words, hidden) : [];
  ui.found = changes;
  const compared = ui.comparing && panel.other && head === null;
  at.eyebrow.textContent = panel.name + (head === null ? "" : `, head ${head} alone`)
    + (compared ? `, ${ui.names.join(" and ")}` : ui.comparing ? `, ${ui.names[0]} alone` : "");
  const measured = lists.some((value, i) => i !== word && value >= 0) || words.length < 2;
  const answer = !found ? { parts: [{ text: "The way through all layers is being computed" }],
    under: [] } : compared ? { parts: comparison(words, changes, ui.columns, ui.names,
    Boolean(hidden)), under: [{ text: `The three largest changes: ${ui.names[0]} above, `
      + `${ui.names[1]} below.` }] }
    : headline(words, word, order, sends, { label: ui.label, measured });
  at.headline.replaceChildren(...told(ui, answer.parts));
  at.under.replaceChildren(...told(ui, answer.under));
  at.headline.style.setProperty("--long", Math.max(at.headline.textContent.length, 1));
  at.shares.replaceChildren(...(compared ? drawChanges(ui, changes) : drawShares(ui)));
}
function drawShares(ui) {
  const { word, order, sends, t, s } = now(ui), { words, settings, data, hidden, total } = ui;
  const kind = total > words.length ? `Of these ${words.length}: all that `
    : settings.special ? "Of all that " : "Of the words that ";
  const name = written(words[word], true);
  const title = data.label ? [`Of ${data.label} in the ${sends ? "column" : "row"} of `, name]
    : sends ? [kind, name, " moves"] : [`${kind}moves `, name];
  const rows = order.slice(0, 3).map(({ i, share, far, value }, k) => make("button", {
    class: "bv-share", "data-other": i, "data-key": `share ${k}`, "data-rank": k,
    style: `--size: ${100 * share}%`, "aria-pressed": i === (sends ? t : s),
    "aria-label": `${spoken(words[i])}: ${percent(share)}, ${hidden ? `moves ${two(far)} as far`
      : digits(value)}` }, written(words[i], true), make("i", {}, make("b")),
  make("span", {}, percent(share)), make("span", {}, hidden ? two(far) : digits(value))));
  return [make("p", {}, make("span", {}, ...title), make("span", {}, "share"),
    make("span", {}, hidden ? "how far" : data.label ? "value" : "influence")), ...rows];
}
/** @param {Ui} ui @param {Change[]} changes */
function drawChanges(ui, changes) {
  const { words, columns } = ui, top = Math.max(...changes.flatMap(one =>
    [one.before, one.after]));
  const name = i => {
    const { text, other } = columns.find(({ word }) => word === i) || { text: "", other: "" };
    return text === other || !other ? spoken(words[i])
      : `\u2068${text}\u2069 / \u2068${other}\u2069`;
  };
  return changes.map(({ t, s, before, after }, k) => make("button", { class: "bv-change",
    "data-pair": `${t} ${s}`, "data-key": `change ${k}`, style: `--from: ${before / top}; `
      + `--to: ${after / top}` }, make("span", {}, `${name(s)} → ${name(t)}`),
  make("i"), make("span", {}, `${two(before)} → ${two(after)}`),
  make("em", {}, `× ${digits(Number((after / before).toPrecision(2)))}`)));
}
// The buttons, once for a sentence.
function makeChips(ui) {
  const { words, at, columns, start, total, data } = ui;
  const chip = i => make("button", { class: `bv-chip${words[i].apart ? " bv-apart" : ""}`,
    "data-word": i, "data-key": `word ${i}` },
    written(words[i]), make("small"));
  const plain = text => make("span", { class: "bv-chip" }, written({ text: text || "–",
    special: /^(\[\w+\]|<.+>)$/.test(text), at: [], nth: 0,
    sign: Object.hasOwn(SIGNS, text) ? SIGNS[text] : "" }), make("small"));
  at.sentence.replaceChildren(...(ui.comparing ? columns.map(({ word, text, other, swapped }) =>
    make("div", { class: `bv-column${swapped ? " bv-swapped" : ""}` },
      word === null ? plain(text) : chip(word), plain(other))) : words.map((_, i) => chip(i))));
  ui.chips = words.map((_, i) => at.sentence.querySelector(`[data-word="${i}"]`));
  at.arcs.replaceChildren(...Array.from({ length: Math.max(words.length, 6) }, () => make("g", {},
    make("path", { class: "bv-arc" }), make("path", { class: "bv-tip" }))));
  at.sentence.dir = directionOf(words);
  at.window.hidden = total <= words.length;
  at.window.firstChild.textContent = `${settingsWord(ui)} ${start + 1} to ${start
    + words.length} of ${total}`;
  const notes = [!ui.model.get("live") && data.title, ui.model.get("second").note];
  at.note.textContent = notes.filter(Boolean).join(" – ");
}
const settingsWord = ({ settings }) => settings.words ? "Words" : "Tokens";
function drawChips(ui) {
  const { word, order, sends, shown, t, s } = now(ui), { words, hidden, comparing } = ui;
  const best = leading(order, most(ui)), chosen = sends ? s : t;
  ui.chips.forEach((chip, i) => {
    const moved = order.find(one => one.i === i), lead = best.find(one => one.i === i);
    const number = moved ? hidden ? two(moved.far) : digits(moved.value) : "";
    chip.classList.toggle("bv-chosen", !comparing && i === word);
    dye(chip, comparing || i === word ? null : shade(ui, shown, ...pairOf(sends, word, i)));
    chip.lastChild.textContent = !comparing && lead ? number : "";
    chip.tabIndex = i === chosen ? 0 : -1;
    chip.setAttribute("aria-pressed", i === chosen);
    chip.setAttribute("aria-label", spoken(words[i]) + (i === word || !number ? "" : hidden
      ? `, ${sends ? "moves" : "moves it"} ${number} as far` : `, ${number}`));
  });
}
// How many arcs there is room for.
/** @param {Ui} ui */
const most = ({ at: { stage } }) => stage.classList.contains("bv-tall") ? 3
  : stage.classList.contains("bv-wrapped") ? 4 : 5;
// The largest letters with which the sentence takes the fewest lines.
/** @param {Ui} ui */
function fitChips({ at: { sentence, stage }, comparing }) {
  const items = [...sentence.children], sizes = comparing ? [22, 20, 18, 17, 16]
    : [30, 28, 26, 24, 22, 20, 18, 17, 16];
  const tried = sizes.map(size => {
    stage.style.setProperty("--letters", `${size}px`);
    return { size, lines: new Set(items.map(item => item.offsetTop)).size };
  });
  const fewest = Math.min(...tried.map(({ lines }) => lines));
  const { size } = tried.find(({ lines, size: letters }) => lines === fewest
    && (fewest === 1 || letters < 21)) || tried[tried.length - 1];
  stage.style.setProperty("--letters", `${size}px`);
  stage.classList.toggle("bv-wrapped", fewest > 1);
  stage.classList.toggle("bv-tall", fewest > 3);
}
/** @param {Ui} ui @returns {(Line & {first: boolean, flip?: number})[]} */
function linesOf(ui) {
  const { chips, at, comparing, settings } = ui, { word, order, sends, panel, values } = now(ui);
  if (settings.drawing !== "arcs") return [];
  if (comparing) return panel.other ? pairLines(ui) : [];
  const boxes = chips.map(chip => ({ x: chip.offsetLeft, y: chip.offsetTop, w: chip.offsetWidth,
    h: chip.offsetHeight }));
  const every = values === panel.values ? ui.panels.flatMap(one => list(one.values, word, sends)
    .filter((value, i) => i !== word && value > 0)) : order.map(({ value }) => value);
  const drawn = arcsOf(leading(order, most(ui)), boxes, word, sends, Math.max(...every));
  return drawn.map((line, k) => ({ ...line, first: !k }));
}
// The changes' arcs twice: over the first sentence, under the second.
/** @param {Ui} ui */
function pairLines({ found, chips, at }) {
  if (at.stage.classList.contains("bv-wrapped")) return [];
  const top = Math.max(...found.flatMap(one => [one.before, one.after]));
  const port = (i, other) => { // as in portsOf: to the left the nearest first, then the farthest
    const { offsetLeft, offsetWidth } = chips[i].parentElement;
    const key = other => other < i ? i - other : 1e3 + i - other;
    const ends = found.filter(({ t, s }) => t === i || s === i).map(({ t, s }) => t === i ? s : t)
      .sort((a, b) => key(a) - key(b));
    return offsetLeft + offsetWidth / 2 + 14 * (ends.indexOf(other) - (ends.length - 1) / 2);
  };
  const over = chips[0].parentElement.offsetTop, height = chips[0].parentElement.offsetHeight;
  return found.flatMap(({ t, s, before, after }, k) => {
    const [ax, bx] = [port(s, t), port(t, s)];
    return [before, after].map((far, row) => {
      const line = arch(ax, over, bx, over, 1.2 + 9 * far / top, over - 24);
      return { ...line, first: !k, flip: row ? 2 * over + height : 0 };
    });
  });
}
function drawArcs(ui) {
  const { at, settings } = ui, lines = linesOf(ui);
  at.stage.classList.toggle("bv-bare", settings.drawing !== "arcs");
  [...at.arcs.children].forEach((node, k) => {
    const line = lines[k], [arc, tip] = node.children;
    node.setAttribute("class", line ? `bv-shown${line.first ? " bv-first" : ""}` : "");
    if (!line) return;
    for (const [part, d] of [[arc, line.d], [tip, line.tip]]) {
      part.setAttribute("d", d);
      part.setAttribute("transform", line.flip ? `translate(0 ${line.flip}) scale(1 -1)` : "");
    }
    arc.style.strokeWidth = `${line.width}px`;
  });
}
// A small map, a pixel a cell.
function thumbnail(ui, panel) {
  const n = ui.words.length, pixels = new ImageData(n, n);
  const canvas = make("canvas", { width: n, height: n, "aria-hidden": "true" });
  for (let i = 0; panel.values && i < n * n; i++) {
    const rgb = shade(ui, panel, Math.floor(i / n), i % n);
    pixels.data.set(rgb ? [...rgb, 255] : [128, 128, 128, 40], 4 * i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
function makeTiles(ui) {
  const { panels, data, model, at } = ui;
  const ask = model.get("live") && panels.length === data.layers.length;
  const later = ask ? [{ id: "all", name: "through all layers", values: null }] : [];
  at.layers.replaceChildren(...[...panels, ...later].map(panel => {
    ui.spread = ui.comparing && panel.other ? spreadOf(panel, ui.settings.own) : { end: 1 };
    const [front, back] = panel.id === "all" ? ["through ", "all"] : /^layer \d+$/.test(panel.name)
      ? ["layer ", panel.id] : ["", panel.name];
    return make("button", { class: "bv-tile", "data-layer": panel.id, "data-key": `layer ${
      panel.id}`, "aria-label": panel.name + (panel.values ? "" : " (compute)") },
    thumbnail(ui, panel),
    make("span", {}, make("em", {}, front), back));
  }));
}
function drawTrend(ui) {
  const { panel, t, s, found } = now(ui), { at, panels, words, data } = ui;
  const tiles = at.layers.children;
  const value = panel.values[t][s], error = panel.errors?.[t][s] ?? 0;
  const mine = ranked(panel.values[t], t, null).find(({ i }) => i === s);
  const share = data.label || !mine ? [] : [` · ${percent(mine.share)} of what `,
    make("b", {}, written(words[t], true)), " receives from others"];
  at.pair.replaceChildren(make("b", {}, `${spoken(words[s])} → ${spoken(words[t])} in each layer`),
    make("em", {}, ...(found ? [`${ui.label || "influence"} ${digits(value)}${error > 0
      ? ` ± ${digits(error)}` : ""} in ${panel.name}`, ...share] : [])));
  [...tiles].forEach((tile, k) => {
    tile.tabIndex = tile.dataset.layer === String(panel.id) ? 0 : -1;
    tile.setAttribute("aria-pressed", tile.dataset.layer === String(panel.id));
  });
  const { width, height } = at.trend.getBoundingClientRect(), gutter = at.layers.offsetLeft;
  const values = [...tiles].map((_, k) => panels[k]?.values[t][s] ?? NaN);
  const { points, ticks, step } = trendOf(values, width, height, gutter);
  const seen = points.filter(({ y }) => y >= 0), whole = tiles.length > data.layers.length;
  const line = seen.filter(({ k }) => k < data.layers.length);
  const text = (x, y, words_, more) => make("text", { x, y, ...more }, words_);
  at.trend.replaceChildren(...ticks.flatMap(tick => [make("line", { x1: gutter, x2: width,
    y1: tick.y, y2: tick.y }), text(gutter - 8, tick.y + 4, tick.text, { "text-anchor": "end",
    class: "bv-tick" })]), ...(whole ? [make("line", { class: "bv-apart", x1: width - step,
    x2: width - step, y1: 0, y2: height })] : []),
  make("polyline", { points: line.map(({ x, y }) => `${x},${y}`).join(" ") }),
  ...seen.flatMap(({ x, y, k, text: label }) => {
    const mine = panels[k] === panel ? "bv-now" : k >= data.layers.length ? "bv-all" : "";
    return [make("circle", { cx: x, cy: y, r: mine === "bv-now" ? 5 : 3.5, class: mine }),
      ...(step > 30 || mine ? [text(x, y - 9, label, { "text-anchor": "middle",
        class: `bv-value ${mine}` })] : [])];
  }));
}
function makeMap(ui) {
  const { words, at } = ui, n = words.length;
  const row = (...children) => make("div", { class: "bv-row", role: "row" }, ...children);
  const upright = text => /^[\u3000-\u9fff\uac00-\ud7af\uff00-\uffef]+$/.test(text);
  const label = (i, side, area) => make("div", { class: `bv-label bv-${side}${
    upright(words[i].text) ? " bv-upright" : ""}`, "data-word": i,
    role: side === "top" ? "columnheader" : "rowheader", style: `grid-area: ${area}`,
    title: words[i].text }, written(words[i]));
  at.map.style.setProperty("--count", n);
  at.map.classList.toggle("bv-many", n > 20);
  const edge = i => (words[Math.floor(i / n)].apart ? " bv-below" : "")
    + (words[i % n].apart ? " bv-beside" : "");
  ui.cells = Array.from({ length: n * n }, (_, i) => make("div", { class: `bv-cell${edge(i)}`,
    role: "gridcell", tabindex: -1, "data-cell": i, "data-key": `cell ${i}`,
    style: `grid-area: ${Math.floor(i / n) + 2} / ${i % n + 2}` }));
  at.map.replaceChildren(row(...words.map((_, s) => label(s, "top", `1 / ${s + 2}`))),
    ...words.map((_, t) => row(label(t, "side", `${t + 2} / 1`), ...ui.cells.slice(t * n,
      t * n + n))), make("div", { class: "bv-band" }));
}
function drawMap(ui) {
  const { shown, values, word, sends, t, s } = now(ui), { words, cells, at } = ui;
  const n = words.length, names = words.map(spoken);
  if (ui.painted !== values) cells.forEach((cell, i) => {
    const [to, from] = [Math.floor(i / n), i % n], rgb = shade(ui, shown, to, from);
    cell.style.background = rgb ? `rgb(${rgb})` : "";
    cell.classList.toggle("bv-unknown", Number.isNaN(values[to][from]));
    cell.setAttribute("aria-label", `${names[from]} → ${names[to]}: ${digits(values[to][from])}`);
  });
  ui.painted = values;
  const picked = cells[t * n + s];
  if (ui.picked !== picked) ui.picked?.setAttribute("aria-selected", "false");
  if (ui.picked) ui.picked.tabIndex = -1;
  picked.setAttribute("aria-selected", "true");
  picked.tabIndex = 0;
  ui.picked = picked;
  at.map.lastChild.style.gridArea = sends ? `2 / ${word + 2} / ${n + 2} / ${word + 3}`
    : `${word + 2} / 2 / ${word + 3} / ${n + 2}`;
}
// The words on both sides of the lines.
function makeLines(ui) {
  const { words, at } = ui, step = words.length > 32 ? 16 : 24;
  const left = Math.min(Math.max(...words.map(({ text }) => text.length)), 26) * 8 + 24;
  const width = 2 * left + 190, y = i => 34 + step * i, right = width - left;
  const low = n => String(n || "").replace(/\d/g, digit => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]);
  const short = text => text.length > 26 ? `${text.slice(0, 25)}…` : text;
  const label = (i, side, x, anchor) => make("text", { x, y: y(i) + 4, "text-anchor": anchor,
    "data-word": i, "data-side": side }, make("title", {}, words[i].text),
  short(words[i].text) + low(words[i].nth));
  const head = (x, anchor, text) => make("text", { x, y: 12, "text-anchor": anchor,
    class: "bv-tick" }, text);
  ui.curve = (t, s) => `M${left + 8},${y(s)} C${width / 2},${y(s)} ${width / 2},${y(t)} ${
    right - 8},${y(t)}`;
  at.lines.setAttribute("viewBox", `0 0 ${width} ${40 + step * words.length}`);
  at.lines.style.maxWidth = `${Math.max(width, 460)}px`;
  at.lines.replaceChildren(make("g"), head(left, "end", "sends"), head(right, "start", "receives"),
    ...words.flatMap((_, i) => [label(i, "sends", left, "end"),
      label(i, "receives", right, "start")]));
}
// The chosen word's lines, and the strongest others faint.
function drawLines(ui) {
  const { shown, word, sends } = now(ui), { at, words } = ui, change = ui.comparing && shown.other;
  const size = (t, s, value) => change ? Math.min(Math.abs(Math.log2(shown.other[t][s] / value))
    / ui.spread.end, 1) : Math.sqrt(value);
  const all = shown.values.flatMap((row, t) => row.map((value, s) => ({ t, s,
    size: size(t, s, value) }))).filter(one => one.t !== one.s && one.size > 0)
    .sort((a, b) => b.size - a.size);
  const mine = ({ t, s }) => (sends ? s : t) === word, top = all[0]?.size || 1;
  const draw = ({ t, s, size: wide }, kind, width) => make("path", { class: kind,
    "data-cell": t * words.length + s, "stroke-width": width(wide), d: ui.curve(t, s),
    style: change ? `stroke: rgb(${shade(ui, shown, t, s)})` : "" });
  at.lines.firstChild.replaceChildren(
    ...all.filter(one => !mine(one)).slice(0, 12).map(one => draw(one, "bv-others", () => 1)),
    ...all.filter(mine).map(one => draw(one, "bv-mine", wide => 0.5 + 9 * wide / top)));
  for (const node of at.lines.querySelectorAll("text[data-side]"))
    node.classList.toggle("bv-mine", Number(node.dataset.word) === word
      && node.dataset.side === ui.settings.direction);
}
function drawSecond(ui) {
  const { at, settings, words } = ui, lines = settings.drawing === "lines";
  at.drawn.replaceChildren(lines ? "Lines" : "Map", make("em", {}, lines
    ? "the chosen word’s, and the twelve strongest others"
    : ui.label ? "row: the target · column: the source"
    : "row: who is moved · column: who is pushed"));
  [at.map.hidden, at.lines.style.display] = [lines, lines ? "" : "none"];
  at.second.classList.toggle("bv-wide", settings.drawing !== "arcs" || words.length > 20);
  ui.root.classList.toggle("bv-stacked", words.length > 32);
  if (lines) drawLines(ui);
  else drawMap(ui);
  drawLegend(ui, lines);
}
function drawLegend(ui, lines) {
  const { low, least, high } = ui.scale, { log } = ui.settings, { panel, head } = now(ui);
  const change = ui.comparing && panel.other && head === null, label = ui.data.label;
  const at = x => change ? 2 ** (ui.spread.end * (2 * x - 1)) : log ? low * (high / low) ** x
    : high * x;
  const sign = x => change ? "× " : log && !x && least < low ? "≤ " : "";
  const stops = (change ? ui.changes : ui.colours).filter((_, i) => i % 15 === 0);
  const what = label ? `${label[0].toUpperCase()}${label.slice(1)}` : "Influence: how far the "
    + "row’s word moves when the column’s is pushed a little, squared and summed over the "
    + `numbers of the push; no unit. One scale for ${ui.partial ? "the layers measured so far"
      : "all layers"}. Sensitivity: what is loud need not carry news`;
  const clipped = change && ui.spread.beyond ? ` ${ui.spread.beyond} of ${ui.spread.of} lie beyond `
    + "the ends and have their colours." : "";
  const text = change ? `${ui.names[1]} relative to ${ui.names[0]}; a scale for each layer.${
    clipped}` : `${what}.`;
  ui.at.legend.replaceChildren(...(lines && !change ? [] : [make("i", {
    style: `background: linear-gradient(to right, ${stops.map(rgb => `rgb(${rgb})`)})` }),
  ...[0, 0.5, 1].map(x => make("span", {}, sign(x) + digits(at(x))))]), make("p", {}, (lines
    ? `Width: ${change ? "how much it changes" : "the root of the value"}, the widest here is `
      + "the largest. " : "") + text[0].toUpperCase() + text.slice(1)));
}
function drawWhy(ui) {
  const { reason, t, s, layer, panel, found } = now(ui), { words, at, model, playing } = ui;
  const live = model.get("live"), quiet = text => at.why.replaceChildren(...(text
    ? [make("h3", {}, "Why"), make("p", { class: "bv-quiet" }, text)] : []));
  if (layer === "all") return quiet(live || ui.hasReasons
    ? "Through all layers no single set of paths exists. Choose one layer for paths and heads."
    : "");
  if (!reason) return quiet(playing ? "Paths and heads follow where it stops." : live
    ? "Computing paths and heads …" : "");
  ui.hasReasons = true;
  const parts = stacked(reason.paths(t, s));
  if (!parts.length && !reason.part.count) return quiet(live
    ? "This layer has no closed form: paths and heads are not known." : "");
  const kind = ({ name, value }) => `bv-${name}${value < 0 ? " bv-minus" : ""}`;
  const keys = parts.map(part => make("li", { class: kind(part), "data-path": part.name,
    "data-value": part.value }, make("i"), make("strong", {}, part.name), make("span", {},
    digits(part.value)), make("em", {}, GLOSSES[part.name] || "")));
  const first = ui.comparing ? `, ${ui.names[0]}` : "";
  at.why.replaceChildren(make("h3", {}, "Why ", make("b", {}, written(words[t], true)), " hears ",
    make("b", {}, written(words[s], true)), make("em", {}, `${digits(panel.values[t][s])} in ${
      panel.name}${first}`)), ...(parts.length ? [make("div", { class: "bv-stack", role: "img",
    "aria-label": parts.map(({ name, value }) => `${name} ${digits(value)}`).join(", ") },
  ...parts.map(part => make("b", { class: kind(part), style: `left: ${100 * part.start}%; width: ${
    100 * part.size}%` }))), make("ul", { class: "bv-keys" }, ...keys)] : []),
  ...drawHeads(ui, reason, panel.values[t][s]));
}
// Four of them, and the others folded; each with its map.
function drawHeads(ui, reason, all) {
  const { t, s } = now(ui), bars = headsOf(reason.heads(t, s));
  if (!bars.length) return [];
  const text = value => value < 1e-4 * Math.max(all, bars[0].value) ? "0" : digits(value);
  const row = ({ head, value, size }) => make("button", { class: "bv-bar", "data-head": head,
    "data-key": `head ${head}`, "data-value": value, style: `--size: ${100 * size}%`,
    "aria-pressed": ui.settings.head === head, "aria-label": `head ${head}: ${text(value)}` },
  thumbnail(ui, { values: reason.map(head) }), make("span", {}, `head ${head}`),
  make("i", {}, make("b")), make("span", {}, text(value)));
  const rest = bars.slice(4), more = make("details", { class: "bv-more" }, make("summary", {},
    `${count(rest.length)} more, each ${text(rest[0]?.value || 0)} or less`), ...rest.map(row));
  more.open = Boolean(ui.unfolded) || rest.some(({ head }) => head === ui.settings.head);
  return [make("h4", {}, "Heads, each alone", make("em", {}, "they overlap and do not add up")),
    ...bars.slice(0, 4).map(row), ...(rest.length ? [more] : [])];
}
function drawHint(ui) {
  const { panel, shown, head, pair } = now(ui), { words, names, hover, comparing, settings } = ui;
  const tell = comparing && !panel.other ? `${names[1]} was not measured ${panel.name}: colours `
    + `are those of ${names[0]}.` : comparing && head !== null
    ? `Heads are known for ${names[0]} alone.` : "";
  const text = head !== null ? `Head ${head} alone: ${says(shown, words, pair[0], pair[1])}. `
    + (hover.head === undefined ? "Click it again for all heads." : "Click to keep it.")
    : hover.pair ? says(panel, words, pair[0], pair[1], comparing ? names[1] : "")
    : tell ? "" : `Point at a word to see what it ${settings.direction}; click to keep it.`;
  ui.at.hint.textContent = [tell && tell[0].toUpperCase() + tell.slice(1), text].filter(Boolean)
    .join(" ");
}
/** Everything that follows the settings and, where `pointed`, the pointer alone.
 * @param {Ui} ui @param {boolean} [pointed] */
function paint(ui, pointed = false) {
  const { settings, at, data, model, root } = ui, { panel, head } = now(ui);
  const held = root.contains(document.activeElement) && focusedKey();
  ui.spread = ui.comparing && panel.other ? spreadOf(panel, settings.own) : { end: 1 };
  if (!pointed) {
    ui.unfolded = at.why.querySelector(".bv-more")?.open ?? ui.unfolded;
    for (const node of root.querySelectorAll("[data-choice]")) {
      const [key, value] = node.dataset.choice.split("=");
      node.setAttribute("aria-checked", settings[key] === value);
      if (value) node.tabIndex = settings[key] === value ? 0 : -1;
      else node.checked = settings[key];
      if (!value) node.parentElement.hidden = (key === "difference" && !ui.second.values)
        || (key === "special" && !data.special.length)
        || (key === "words" && data.words.length === data.tokens.length);
    }
    at.call.hidden = true;
    drawWhy(ui);
  }
  for (const draw of [drawHead, drawChips, drawArcs, drawSecond, drawHint]) draw(ui);
  if (!pointed || ui.playing) drawTrend(ui);
  at.caption.textContent = captionOf(data, panel.name, head);
  const state = { selected: model.get("selected"), ...settings, of: data.of };
  root.dataset.state = JSON.stringify(state);
  if (held && focusedKey() !== held)
    root.querySelector(`[data-key="${held}"]`)?.focus();
  tell(ui);
}
// After another sentence, switch or theme.
function rebuild(ui) {
  const held = ui.root.contains(document.activeElement) && focusedKey();
  derive(ui);
  for (const draw of [makeChips, makeTiles, makeMap, makeLines, fitChips, paint]) draw(ui);
  if (held) ui.root.querySelector(`[data-key="${held}"]`)?.focus();
}
/** How far a computation is, what is wrong with the input, or that nobody answers.
 * @param {Ui} ui @param {boolean} [silent] */
function tell(ui, silent = false) {
  const { model, at, root, settings, data } = ui, status = model.get("status");
  const busy = ["busy", "more"].includes(status.state), live = model.get("live");
  const stale = live && isStale(data, settings), [layer] = model.get("selected");
  const waits = live && !["error", "stopped"].includes(status.state) && (stale || busy
    || !(layer === "all" ? ui.panels.some(({ id }) => id === "all") : reasonOf(ui, layer)));
  clearTimeout(ui.patience);
  if (waits && !silent) ui.patience = setTimeout(() => tell(ui, true), busy ? 30000 : 5000);
  root.dataset.ready = stale && !["error", "stopped"].includes(status.state) ? "busy"
    : status.state;
  root.classList.toggle("bv-stale", stale);
  root.toggleAttribute("aria-busy", Boolean(stale && waits));
  at.status.hidden = !live;
  at.status.setAttribute("role", status.state === "error" || silent ? "alert" : "none");
  const [text, bar, stop, pre] = at.status.children;
  bar.hidden = stop.hidden = !busy || silent;
  text.textContent = silent ? "Python does not answer. If it was restarted, run the cell again."
    : ui.saving ? "Writing the page …" : status.text || "";
  [pre.textContent, bar.value] = [status.trace || "", status.done || 0];
}
/** @param {Ui} ui */
function send({ model }, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}
const choose = (ui, changes) =>
  send(ui, { settings: { ...ui.model.get("settings"), ...changes } });
/** @param {Ui} ui @param {any} layer @param {number} t @param {number} s */
const select = (ui, layer, t, s) =>
  send(ui, { selected: [layer, ui.words[t].at[0], ui.words[s].at[0]] });
/** Target and source. @param {boolean} sends @param {number} word @param {number} other
 * @returns {[number, number]} */
const pairOf = (sends, word, other) => sends ? [other, word] : [word, other];
/** A word, and with it the one at the strong end. @param {Ui} ui @param {number} word */
function lock(ui, word) {
  const { layer, values, sends } = now(ui), [best] = ranked(list(values, word, sends), word, null);
  const other = best ? best.i : word;
  select(ui, layer, ...pairOf(sends, word, other));
}
/** One layer after the other, once; where it stops is chosen. @param {Ui} ui @param {boolean} on */
function play(ui, on) {
  clearTimeout(ui.timer);
  const { at, playing: was } = ui;
  ui.playing = on;
  at.play.setAttribute("aria-pressed", on);
  at.play.setAttribute("aria-label", on ? "Pause" : "Play the layers");
  at.play.innerHTML = on ? PAUSE : PLAY;
  at.headline.setAttribute("aria-live", on ? "off" : "polite");
  if (!on && was) {
    const { layer, t, s } = now(ui);
    ui.hover = {};
    select(ui, layer, t, s);
  }
  const step = number => {
    ui.hover = { layer: number };
    paint(ui, true);
    drawWhy(ui);
    ui.timer = setTimeout(() => number < ui.data.layers.length - 1 ? step(number + 1)
      : play(ui, false), 800);
  };
  if (on) step(0);
}
// What is on screen, piece by piece, for a picture.
function itemsOf(ui) {
  const { at, root } = ui, items = [], areas = [root.querySelector(".bv-head"), at.shares, at.stage,
    ...(at.second.open && ui.settings.drawing !== "arcs" ? [at.second] : [])];
  const zero = root.getBoundingClientRect(), walker = area => document.createTreeWalker(area,
    NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (const area of areas) for (let walk = walker(area), node = /** @type {any} */ (area); node;
    node = walk.nextNode()) {
    const host = node.nodeType === 3 ? node.parentElement : node, look = getComputedStyle(host);
    if (!host.checkVisibility?.() || host.closest(".bv-arcs g:not(.bv-shown)")) continue;
    if (node.nodeType === 3) textOf(node, look, zero, items);
    else if (["path"].includes(host.localName)) {
      const { a, b, c, d, e, f: g } = host.getScreenCTM();
      items.push({ tag: "path", d: host.getAttribute("d"), fill: look.fill, stroke: look.stroke,
        "stroke-width": look.strokeWidth, transform: `matrix(${[a, b, c, d, e - zero.x,
          g - zero.y]})` });
    } else if (!["rgba(0, 0, 0, 0)", "transparent"].includes(look.backgroundColor)) {
      const { x, y, width, height } = host.getBoundingClientRect();
      items.push({ tag: "rect", x: f(x - zero.x), y: f(y - zero.y), width: f(width),
        height: f(height), rx: parseFloat(look.borderRadius) || 0, fill: look.backgroundColor });
    }
  }
  return items;
}
/** The words of a text, each where it stands. @param {any} node @param {any} look @param {DOMRect}
 * zero @param {Record<string, any>[]} items */
function textOf(node, look, zero, items) {
  const range = document.createRange(), size = parseFloat(look.fontSize);
  const upright = node.parentElement.closest(".bv-top");
  for (const { index, 0: text } of node.data.matchAll(/\S+/g)) {
    range.setStart(node, index);
    range.setEnd(node, index + text.length);
    const { x, y, width, height } = range.getBoundingClientRect();
    const [middle, base] = [x - zero.x + width / 2, y - zero.y + height / 2];
    items.push({ tag: "text", text, "font-size": size, "font-weight": look.fontWeight,
      fill: node.parentElement.closest("svg") ? look.fill : look.color, "text-anchor": "middle",
      x: f(middle + (upright ? size * 0.35 : 0)), y: f(base + (upright ? 0 : size * 0.35)),
      ...(upright ? { transform: `rotate(-90 ${f(middle + size * 0.35)} ${f(base)})` } : {}) });
  }
}
/** @param {Ui} ui @param {string} kind svg or png */
function exported(ui, kind) {
  const items = itemsOf(ui), { root, at, data } = ui, { width } = root.getBoundingClientRect();
  const bottom = Math.max(...items.map(({ tag, y = 0, height = 0 }) => Number(y) + Number(height)),
    at.stage.offsetTop + at.stage.offsetHeight);
  const css = getComputedStyle(root), sentence = data.how.text || data.tokens.join(" ");
  items.push(...[sentence, at.caption.textContent].map((text, k) => ({ tag: "text", text, x: 32,
    y: bottom + 30 + 18 * k, "font-size": 12, fill: css.getPropertyValue("--quiet") })));
  const svg = picture({ width, height: bottom + 64, paper: css.backgroundColor, items,
    title: `${at.headline.textContent}. ${sentence}. ${at.caption.textContent}` });
  if (kind === "svg") return download("influence.svg", new Blob([svg], { type: "image/svg+xml" }));
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(png => download("influence.png", png));
  };
  image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
function act(ui, act) {
  const { model, at, words, start, total } = ui, { layer, t, s } = now(ui);
  if (act === "play") play(ui, !ui.playing);
  if (act === "svg" || act === "png") exported(ui, act);
  if (act === "reset") send(ui, model.get("initial"));
  if (act === "stop" || act === "page") model.send({ wanted: act });
  if (act === "page" && model.get("live")) ui.saving = true;
  if (act === "page" || act === "stop") tell(ui);
  if (act === "earlier" || act === "later") {
    const all = ui.settings.words ? ui.data.words.map(([, places]) => places[0])
      : ui.data.tokens.map((_, i) => i);
    const middle = act === "later" ? Math.min(start + 1.5 * SHOWN, total - 1) : start - SHOWN / 2;
    const [position] = [all[Math.max(0, Math.floor(middle))]];
    send(ui, { selected: [layer, position, position] });
    rebuild(ui);
    lock(ui, Math.max(words.findIndex(one => one.at.includes(position)), 0));
  }
  if (act !== "copy") return;
  at.call.value = callOf(ui.data, ui.settings, model.get("selected"));
  at.call.hidden = false;
  at.call.select();
  navigator.clipboard?.writeText(at.call.value).catch(() => {}); // not allowed: it is selected
}
function press(ui, event) {
  const node = event.target.closest("button, input[data-choice], [data-cell], [data-word]");
  const { word, other, cell, pair, head, choice = "" } = node?.dataset || {};
  const { layer: wanted, act: does } = node?.dataset || {};
  const { settings } = ui;
  if (!node) return;
  if (does !== "play" && ui.playing) play(ui, false);
  const { layer, t, s, sends, word: looked } = now(ui), n = ui.words.length;
  if (does !== "play") ui.hover = {};
  if (word) lock(ui, Number(word));
  if (other) select(ui, layer, ...pairOf(sends, looked, Number(other)));
  if (cell) select(ui, layer, Math.floor(cell / n), cell % n);
  if (pair) select(ui, layer, Number(pair.split(" ")[0]), Number(pair.split(" ")[1]));
  if (wanted && settings.head !== null) choose(ui, { head: null });
  if (wanted) select(ui, wanted === "all" ? wanted : Number(wanted), t, s);
  if (head) choose(ui, { head: settings.head === Number(head) ? null : Number(head) });
  const [key, value] = choice.split("=");
  if (key === "drawing" && value !== "arcs") ui.at.second.open = true;
  if (choice) choose(ui, { [key]: value || !settings[key] });
  if (key === "direction") lock(ui, sends ? s : t);
  if (does) act(ui, does);
}
/** What the pointer or the focus is on. */
function point(ui, target) {
  const node = target.closest?.("[data-cell], [data-word], [data-head]");
  const { cell, word, head } = node?.dataset || {}, n = ui.words.length;
  const pair = cell && [Math.floor(cell / n), cell % n];
  const next = pair ? { pair } : word ? { word: Number(word) } : head ? { head: Number(head) } : {};
  if (ui.playing || JSON.stringify(next) === JSON.stringify(ui.hover)) return;
  ui.hover = next;
  paint(ui, true);
}
/** The arrow keys, Home and End, inside what is one tab stop. */
function move(ui, event) {
  const { target, key } = event;
  if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // a notebook's "dd" deletes a cell
  const group = target.closest("[role=toolbar], [role=radiogroup], [role=grid]");
  if (!group) return;
  const grid = group === ui.at.map, items = grid ? ui.cells : [...group.querySelectorAll("button")];
  const at = items.indexOf(target), last = items.length - 1, across = grid ? ui.words.length : 1;
  const on = group.dir === "rtl" ? -1 : 1, home = grid ? at - at % across : 0;
  const next = { ArrowRight: at + on, ArrowLeft: at - on, ArrowDown: at + across,
    ArrowUp: at - across, Home: home, End: grid ? home + across - 1 : last }[key];
  if (grid && (key === "Enter" || key === " ")) target.click();
  if (next === undefined && !(grid && key === " ")) return;
  event.preventDefault();
  const node = items[Math.min(Math.max(next ?? at, 0), last)];
  node.focus();
  if (group.matches("[role=radiogroup]")) node.click();
}
// The text box and what is beside it.
function listenToInput(ui) {
  const { at: { input }, model } = ui;
  let timer;
  const read = ({ target: node }) => {
    clearTimeout(timer);
    const value = node.type === "number" ? Number(node.value) : node.value;
    node.dataset.sent = value;
    if (value !== model.get("settings")[node.dataset.field])
      choose(ui, { [node.dataset.field]: value });
  };
  input.addEventListener("change", read);
  input.addEventListener("input", event => {
    clearTimeout(timer);
    timer = setTimeout(read, 250, event);
  });
  input.addEventListener("keydown", event => {
    if (event.key !== "Enter" || event.target.tagName === "SUMMARY") return;
    read(event);
    if (isStale(ui.data, model.get("settings")) || model.get("status").state === "stopped")
      model.send({ wanted: "again" });
  });
  return () => input.querySelectorAll("[data-field]").forEach(node => {
    const value = String(model.get("settings")[node.dataset.field]);
    if (node !== document.activeElement || value !== node.dataset.sent)
      node.value = node.dataset.sent = value;
  });
}
/** What a view on the page holds: `root` and `at`, its elements; `model`; `hover`, what the pointer
 * is on; and what `derive` makes of the numbers. @param {{model: any, el: any}} host */
function render({ model, el }) {
  const root = make("section", { class: "bv", "aria-label": "Influence of words on words" });
  root.innerHTML = SKELETON;
  el.append(root);
  const at = Object.fromEntries([...root.querySelectorAll("[data-at]")].map(node =>
    [node.dataset.at, node]));
  /** @type {Ui} */
  const ui = { root, at, model, hover: {}, start: 0 }, fill = listenToInput(ui);
  const theme = () => { if (isDark() !== ui.dark) rebuild(ui); };
  const resized = () => {
    if (ui.width === root.clientWidth) return;
    ui.width = root.clientWidth;
    fitChips(ui);
    paint(ui);
  };
  const moved = () => { // another window of words, or the same one
    const [, target, source] = model.get("selected");
    const position = ui.settings.direction === "sends" ? source : target;
    if (ui.words.some(one => one.at.includes(position)) || ui.total === ui.words.length) paint(ui);
    else rebuild(ui);
  };
  const settled = () => {
    const { head: _, ...was } = ui.settings, { head, drawing, ...is } = model.get("settings");
    const { drawing: before, ...rest } = was;
    fill();
    if (JSON.stringify(rest) !== JSON.stringify(is)) return rebuild(ui);
    ui.settings = model.get("settings");
    if (before !== drawing) ui.painted = null;
    paint(ui);
  };
  const listeners = { "change:data": () => rebuild(ui), "change:through": () => rebuild(ui),
    "change:second": () => rebuild(ui), "change:why": () => paint(ui), "change:selected": moved,
    "change:status": () => tell(ui), "change:settings": settled,
    "msg:custom": message => {
      ui.saving = false;
      if (message.page) save(message.page);
      tell(ui);
    } };
  const watchers = [[matchMedia("print"), "change", theme], [root, "click", e => press(ui, e)],
    [root, "keydown", e => move(ui, e)], [root, "pointerover", e => e.pointerType !== "touch"
      && point(ui, e.target)], [root, "focusin", e => point(ui, e.target)],
    [root, "pointerleave", () => point(ui, root)], [root, "focusout", () => point(ui, root)]];
  const observers = [new MutationObserver(theme), new ResizeObserver(resized)];
  at.input.hidden = !model.get("live");
  at.second.open = innerWidth > 700 || model.get("settings").drawing !== "arcs";
  play(ui, false);
  fill();
  rebuild(ui);
  for (const [node, type, run] of watchers) node.addEventListener(type, run);
  for (const [event, run] of Object.entries(listeners)) model.on(event, run);
  for (const node of [document.body, document.documentElement])
    observers[0].observe(node, { attributes: true });
  observers[1].observe(root);
  return () => {
    for (const [event, run] of Object.entries(listeners)) model.off(event, run);
    matchMedia("print").removeEventListener("change", theme);
    for (const observer of observers) observer.disconnect();
    clearTimeout(ui.patience);
    clearTimeout(ui.timer);
  };
}
export { aligned, arcsOf, callOf, changesOf, digits, directionOf, fromHash, headline, isStale, kin,
  place, portsOf, ramp, ranked, says, scaleOf, spreadOf, stacked, toHash, trendOf, wordsOf };
export default { render };
