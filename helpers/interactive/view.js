// @ts-check
// How much each word of a sentence moves each other word. Python sends numbers; what is chosen,
// coloured and drawn is made here. First the pure functions, from numbers and settings to what is
// to be drawn; then the page. `model` is anywidget's, or in a page without a kernel the object in
// page.html. Matrices are [target][source].

/** @typedef {number[][]} Matrix */
/** @typedef {Record<string, any>} Settings the switches, `head`, and what NUMBERS names */
/** @typedef {{of: string, title: string, call: string, tokens: string[], special: number[],
 *   words: [string, number[]][], apart: number[], layers: string[], values: string, label: string,
 *   ramp: Record<string, string[]>, how: Record<string, any>, source: string,
 *   stderr: string | null}} Data what Python sends */
/** @typedef {{text: string, at: number[], nth: number, special: boolean, sign: string,
 *   apart: boolean}} Word `at`: its tokens; `apart`: the second text of a pair begins with it */
/** @typedef {{values: Matrix, other: Matrix | null,
 *   spread: ReturnType<typeof spreadOf> | null}} Drawn `other`: the values in the second */
/** @typedef {Drawn & {id: number | "all", name: string, errors: Matrix | null}} Panel a layer */
/** @typedef {{i: number, value: number, share: number, far: number | null}} Moved */
/** @typedef {{t: number, s: number, before: number, after: number}} Change */
/** @typedef {{word: number | null, text: string, other: string, swapped: boolean}} Column */
/** @typedef {{name: string, value: number}} Path */
/** @typedef {{part: any, count: number, heads: (t: number, s: number) => number[],
 *   map: (head: number) => Matrix, paths: (t: number, s: number) => Path[]}} Reason */
/** @typedef {{x: number, y: number, w: number, h: number}} Box */
/** @typedef {{d: string, tip: string, width: number, flip?: number}} Line */
/** @typedef {ReturnType<typeof now>} Look */
/** @typedef {{root: any, at: Record<string, any>, model: any, data: Data, settings: Settings,
 *   hover: {layer?: number, head?: number, word?: number, pair?: number[]}, dark: boolean,
 *   words: Word[], start: number, places: number[], panels: Panel[], second: any, names: string[],
 *   scale: ReturnType<typeof scaleOf>, comparing: boolean, columns: Column[], label: string,
 *   hidden: number | null, colours: number[][], contrast: number[][], reasons: Map<any, Reason>,
 *   chips: any[], cells: any[], picked: any, painted: Matrix | null, width: number,
 *   curve: (t: number, s: number) => string, playing: boolean, saving: boolean, timer: number,
 *   unfolded: boolean, hasReasons: boolean, patience: number, typing: number,
 *   sources: any[]}} Ui what one view holds; `sources`: see madeOf */
/** @type {Record<string, string[]>} */
const CHOICES = { direction: ["sends", "receives"], drawing: ["arcs", "map", "lines"] };
const NUMBERS = ["text", "second", "method", "samples", "sigma"]; // what `data.of` is made from
const SHOWN = 64; // words at a time
const SIGNS = new Map(Object.entries({ ",": "comma", ".": "full stop", "?": "question mark",
  "!": "exclamation mark", ":": "colon", ";": "semicolon", "-": "hyphen", "'": "apostrophe",
  "\"": "quotation mark" }));
const CHANGES = { // less, equal, more: the middle is close to the paper
  light: ["2166ac", "67a9cf", "d1e5f0", "f6f3ee", "fddbc7", "ef8a62", "b2182b"],
  dark: ["7fbdf0", "3d7fb5", "27455e", "262226", "5e3325", "c05a35", "ff9d73"] };
const GLOSSES = new Map(Object.entries({ value: "what it says", key: "how much it is heard",
  query: "what is asked", interference: "where the paths meet", residual: "it stays itself" }));

// ------------------------------------------------------------------------------ numbers in words
/** @type {(value: number, low: number, high: number) => number} */
const within = (value, low, high) => Math.min(Math.max(value, low), high);
/** 256 colours, [red, green, blue], along some. @param {string[]} stops */
function ramp(stops) {
  const last = stops.length - 1;
  const rgb = stops.map(stop => [0, 2, 4].map(at => parseInt(stop.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const k = Math.min(Math.floor(i / 255 * last), last - 1);
    const over = i / 255 * last - k;
    return rgb[k].map((part, c) => Math.round(part * (1 - over) + rgb[k + 1][c] * over));
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
  const raised = power.replace("-", "⁻").replace(/\d/g, digit => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]);
  return `${front.replace("-", "−")} × 10${raised}`;
}
/** A distance. @param {number | null} value */
function two(value) {
  if (value === null || value < 0.001) return "0.00";
  return value < 1 ? value.toPrecision(2) : String(Number(value.toPrecision(3)));
}
const times = (/** @type {Change} */ { before, after }) =>
  `× ${digits(Number((after / before).toPrecision(2)))}`;
const percent = (/** @type {number} */ share) =>
  share < 0.01 ? "<\u00a01\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
/** @param {number} n */
function nth(n) {
  const teens = n % 100 > 10 && n % 100 < 14;
  return n + ((!teens && ["", "st", "nd", "rd"][n % 10]) || "th");
}
const capital = (/** @type {string} */ text) => text.slice(0, 1).toUpperCase() + text.slice(1);
/** A text whose direction stays inside. @param {string} text */
const isolated = text => `\u2068${text}\u2069`;
/** A word inside a sentence of English. @param {Word} word */
const spoken = ({ text, sign, nth: which }) =>
  isolated(sign ? `the ${sign}` : text) + (which ? ` (${nth(which)})` : "");

// ---------------------------------------------------------------------------- words and matrices
/** The words that are shown: pieces joined or not, 64 around position `around`. `start` is where
 * the last window began: it stays while `around` is inside. `places` has all words' positions.
 * @param {Data} data @param {Settings} settings @param {number} around @param {number} start */
function wordsOf(data, settings, around, start) {
  const special = new Set(data.special);
  /** @type {[string, number[]][]} */
  let all = settings.words ? data.words : data.tokens.map((token, i) => [token, [i]]);
  if (!settings.special && special.size < data.tokens.length)
    all = all.filter(([, at]) => !special.has(at[0]));
  const middle = Math.max(all.findIndex(([, at]) => at.includes(around)), 0);
  if (middle < start || middle >= start + SHOWN) start = middle - SHOWN / 2;
  start = Math.max(0, Math.min(start, all.length - SHOWN));
  const words = all.slice(start, start + SHOWN).map(([text, at]) => {
    const equal = all.filter(([other]) => other === text).map(([, places]) => places);
    return { text, at, nth: equal.length > 1 ? equal.indexOf(at) + 1 : 0,
      sign: SIGNS.get(text) || "", special: special.has(at[0]), apart: data.apart.includes(at[0]) };
  });
  return { words, start, places: all.map(([, at]) => at[0]) };
}
/** The squared norm of a block of several pieces is the sum of theirs.
 * @type {(flat: Float32Array, size: number, layer: number, to: Word, from: Word) => number} */
function block(flat, size, layer, to, from) {
  let sum = 0;
  for (const t of to.at) for (const s of from.at) sum += flat[(layer * size + t) * size + s];
  return sum;
}
/** @type {(flat: Float32Array, size: number, layer: number, words: Word[]) => Matrix} */
const matrix = (flat, size, layer, words) =>
  words.map(to => words.map(from => block(flat, size, layer, to, from)));
/** One for every layer, and the last for the way through all of them.
 * @param {Data} data @param {any} through @param {any} second @param {Word[]} words
 * @param {boolean} own @returns {Panel[]} */
function panelsOf(data, through, second, words, own) {
  /** @type {(id: number | "all", name: string, flats: (Float32Array | null)[]) => Panel} */
  const panel = (id, name, flats) => {
    const [values, errors, other] = flats.map(flat => flat
      && matrix(flat, data.tokens.length, id === "all" ? 0 : id, words));
    const spread = values && other && spreadOf(values, other, own);
    return { id, name, values: values || [], errors, other, spread };
  };
  const flats = [data.values, data.stderr, second.values].map(floats);
  const panels = data.layers.map((name, id) => panel(id, name, flats));
  if (!through.values) return panels;
  const whole = [through.values, through.stderr, second.through].map(floats);
  return [...panels, panel("all", "through all layers", whole)];
}
/** One scale for all layers: four decades at most. @param {Panel[]} panels @param {boolean} own */
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
/** Where on the scale, 0 to 1.
 * @type {(value: number, scale: {low: number, high: number}, log: boolean) => number} */
function place(value, { low, high }, log) {
  if (!log) return within(value / high, 0, 1);
  return within(Math.log(Math.max(value, low) / low) / Math.log(high / low), 0, 1);
}
/** The ends of a layer's colours for changes, in powers of two, and how many cells lie beyond.
 * @param {Matrix} values @param {Matrix} other @param {boolean} own */
function spreadOf(values, other, own) {
  const sizes = values.flatMap((row, t) => row.map((value, s) =>
    t === s && !own ? NaN : Math.abs(Math.log2(other[t][s] / value))));
  const seen = sizes.filter(Number.isFinite).sort((a, b) => a - b);
  const end = Math.max(seen[Math.floor(0.95 * (seen.length - 1))] || 0, 0.1);
  return { end, beyond: seen.filter(size => size > end * 1.0001).length, of: seen.length };
}
/** What the word sends (its column) or receives (its row).
 * @type {(values: Matrix, word: number, sends: boolean) => number[]} */
const listOf = (values, word, sends) => sends ? values.map(row => row[word]) : values[word];
/** The others, largest first, with their share of the sum and how far they move for a push of 1.
 * @type {(values: number[], word: number, hidden: number | null) => Moved[]} */
function ranked(values, word, hidden) {
  const others = values.map((value, i) => ({ i, value }))
    .filter(({ i, value }) => i !== word && value > 0).sort((a, b) => b.value - a.value);
  const sum = others.reduce((all, { value }) => all + value, 0);
  return others.map(({ i, value }) =>
    ({ i, value, share: value / sum, far: hidden ? Math.sqrt(value / hidden) : null }));
}
/** Three, and up to `most` while they have a fifth of the largest.
 * @param {Moved[]} order @param {number} most */
const leading = (order, most) =>
  order.filter(({ value }, k) => k < 3 || (k < most && value >= 0.2 * order[0].value));
/** The three pairs that change most, in how far they move (or, without `hidden`, in value).
 * @param {Panel} panel @param {Word[]} words @param {number | null} hidden */
function changesOf({ values, other }, words, hidden) {
  const far = (/** @type {number} */ value) => hidden ? Math.sqrt(value / hidden) : value;
  const size = (/** @type {Change} */ { before, after }) => Math.abs(after - before);
  /** @type {Change[]} */
  const found = [];
  if (other) values.forEach((row, t) => row.forEach((value, s) => {
    const change = { t, s, before: far(value), after: far(other[t][s]) };
    const between = t !== s && !words[t].special && !words[s].special;
    if (between && size(change) > 0) found.push(change);
  }));
  return found.sort((a, b) => size(b) - size(a)).slice(0, 3);
}
/** The first sentence's words and the second's, side by side. What is put in behind the last word
 * that is shown is not shown either. `second.columns` are pairs of positions.
 * @param {Word[]} words @param {{tokens: string[], columns: (number | null)[][]}} second */
function aligned(words, second) {
  /** @type {Column[]} */
  const found = [];
  let hidden = false;
  for (const [a, b] of second.columns) {
    const other = b === null ? "" : second.tokens[b];
    if (a === null) {
      if (!hidden || found.every(one => one.word === null))
        found.push({ word: null, text: "", other, swapped: true });
      continue;
    }
    const word = words.findIndex(({ at }) => at.includes(a));
    const column = found.find(one => one.word === word);
    hidden = word < 0;
    if (column) column.other += column.other ? other.replace(/^##/, "") : other;
    else if (!hidden) found.push({ word, text: words[word].text, other, swapped: false });
  }
  for (const column of found) column.swapped = column.text !== column.other;
  return found;
}
/** By the first letter of the text, as in `dir="auto"`. @param {Word[]} words */
function directionOf(words) {
  const text = words.filter(({ special }) => !special).map(word => word.text).join(" ");
  return /^\P{L}*[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/u.test(text) ? "rtl" : "ltr";
}

// --------------------------------------------------------------------------- what is said of them
/** One pair in words. @param {Panel} panel @param {Word[]} words @param {number} t
 * @param {number} s @param {string} name of the second */
function says({ values, errors, other }, words, t, s, name) {
  const value = values[t][s];
  const order = ranked(values[t], t, null);
  const rank = order.findIndex(({ i }) => i === s) + 1;
  let text = `${spoken(words[s])} → ${spoken(words[t])}: ${digits(value)}`;
  if (errors && errors[t][s] > 0) text += ` ± ${digits(errors[t][s])}`;
  if (other && other[t][s] >= 0)
    text += `, in ${name} ${digits(other[t][s])} (× ${digits(other[t][s] / value)})`;
  if (t === s) return `${text}, its own position`;
  return rank ? `${text}, ${nth(rank)} of ${order.length} sources of ${spoken(words[t])}` : text;
}
/** The paths as one bar: what adds, and what interference takes away or gives.
 * @param {Path[]} parts */
function stacked(parts) {
  const full = parts.reduce((sum, { value }) => sum + Math.max(value, 0), 0) || 1;
  let end = 0;
  return parts.map(({ name, value }) => {
    const size = Math.abs(value) / full;
    const start = value < 0 ? end - size : end;
    end += value / full;
    return { name, value, start, size };
  });
}
/** The Python call that brings a view back. @param {{call: string}} data
 * @param {Settings} settings @param {any[]} selected */
function callOf({ call }, { head, ...settings }, [layer, target, source]) {
  const options = Object.entries({ ...settings, layer, target, source }).map(([name, value]) =>
    `${name}=${typeof value === "boolean" ? capital(String(value)) : JSON.stringify(value)}`);
  return `${[call, ...options].join(", ")})`;
}
/** Where the numbers come from, as far as the influence knows it.
 * @param {Data} data @param {Look} look */
function captionOf({ how, source }, { panel: { name, errors }, head, word, sends }) {
  const sampled = errors && listOf(errors, word, sends).some(error => error > 0);
  const method = sampled && how.method === "exact" ? "estimated by sampling" : how.method;
  const versions = ["torch", "transformers"].filter(name => how[name])
    .map(name => `${name} ${how[name]}`).join(", ");
  return [how.model, name, head !== null && `head ${head}`, method,
    how.samples && `${how.samples} samples`, versions, source].filter(Boolean).join(" · ");
}
/** What is chosen, for the address of a page. @param {Settings} settings @param {any[]} selected */
function toHash({ head, ...settings }, [layer, target, source]) {
  const chosen = new URLSearchParams({ layer, target, source, ...settings });
  if (head >= 0 && head !== null) chosen.set("head", head);
  return String(chosen);
}
/** The same back, as far as it fits what the page has; the rest as it is.
 * @param {string} hash @param {any} state */
function fromHash(hash, { data, settings, selected, through }) {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  const places = [...data.tokens.keys()];
  const layers = [...data.layers.keys(), ...(through.values ? ["all"] : [])];
  /** @type {Record<string, any[]>} */
  const known = { ...CHOICES, layer: layers, target: places, source: places };
  /** @type {(name: string, was: any) => any} */
  const read = (name, was) => {
    const choices = known[name] || (typeof was === "boolean" ? [true, false] : []);
    return choices.find(value => String(value) === asked.get(name)) ?? was;
  };
  const found = { ...settings };
  for (const name in settings) found[name] = read(name, settings[name]);
  if (/^\d+$/.test(asked.get("head") || "")) found.head = Number(asked.get("head"));
  const chosen = ["layer", "target", "source"].map((name, k) => read(name, selected[k]));
  return { settings: found, selected: chosen };
}
/** The values of NUMBERS; none in a page without Python. @type {(of?: string) => any[]} */
const madeFrom = of => of ? JSON.parse(of) : [];
/** Paths and the way through are those of these numbers, whatever the second sentence is.
 * @type {(of: string | undefined, numbers: string) => boolean} */
function belongs(of, numbers) {
  const [mine, theirs] = [of, numbers].map(one =>
    JSON.stringify(madeFrom(one).filter((_, i) => NUMBERS[i] !== "second")));
  return mine === theirs;
}
/** Whether what is on screen is the answer to other settings.
 * @param {Data} data @param {Settings} settings */
const isStale = ({ of }, settings) =>
  madeFrom(of).some((value, i) => value !== settings[NUMBERS[i]]);

// ----------------------------------------------------------------------------- lines and pictures
/** The text of a path, to a tenth of a pixel.
 * @param {TemplateStringsArray} texts @param {...number} numbers */
const path = (texts, ...numbers) => String.raw(texts, ...numbers.map(one => one.toFixed(1)));
/** @type {(x: number, end: number, from: number, width: number) => string} points at (x, end) */
function tipOf(x, end, from, width) {
  const half = 3 + width * 0.72;
  return path`M${x},${end} L${x - half},${from} L${x + half},${from} Z`;
}
/** An arch between two points, [x, y]; `room` is what is over them.
 * @type {(a: number[], b: number[], width: number, room: number) => Line} */
function arch([ax, ay], [bx, by], width, room) {
  const lift = Math.min(room, 32 + 0.22 * Math.abs(ax - bx)) / 0.75;
  const tip = by - 8 - width * 0.8; // where it begins
  const d = path`M${ax},${ay - 2} C${ax},${ay - 2 - lift} ${bx},${tip - lift} ${bx},${tip}`;
  return { d, tip: tipOf(bx, by - 3, tip, width), width };
}
/** Along a lane between two lines, with round corners.
 * @type {(a: number[], b: number[], width: number, lane: number) => Line} */
function bend([ax, ay], [bx, by], width, lane) {
  const out = Math.sign(lane - ay) || 1;
  const into = Math.sign(by - lane) || 1;
  const [start, end] = [ay + 2 * out, by - 3 * into];
  const tip = end - into * (4 + width * 0.7); // where it begins
  const r = Math.min(12, Math.abs(ax - bx) / 2, Math.abs(start - lane), Math.abs(tip - lane));
  const side = Math.sign(bx - ax) * r;
  const up = path`M${ax},${start} V${lane - out * r} Q${ax},${lane} ${ax + side},${lane}`;
  const along = path`H${bx - side} Q${bx},${lane} ${bx},${lane + into * r} V${tip}`;
  return { d: `${up} ${along}`, tip: tipOf(bx, end, tip, width), width };
}
/** The place and the lane on the chosen word of each arc, so that none crosses another. On each
 * side those to other lines come first, the nearest first; then those on the same line, the
 * farthest first. The first has the place nearest the middle and the lane farthest away.
 * @param {number[]} others @param {Box[]} boxes @param {number} word */
function portsOf(others, boxes, word) {
  const { x, y, w, h } = boxes[word];
  const rows = [...new Set(boxes.map(box => box.y))].sort((a, b) => a - b);
  const row = rows.indexOf(y);
  const right = (/** @type {number} */ i) => boxes[i].x + boxes[i].w / 2 - x - w / 2;
  const level = (/** @type {number} */ i) => boxes[i].y === y;
  /** @type {(a: number, b: number) => number} */
  const order = (a, b) => {
    if (level(a) !== level(b)) return level(a) ? 1 : -1;
    const farther = Math.abs(right(a)) - Math.abs(right(b));
    return level(a) ? -farther : farther;
  };
  /** @type {Map<number, {x: number, lane: number, down: boolean}>} */
  const found = new Map();
  for (const down of [false, true]) {
    const mine = others.filter(i => (boxes[i].y > y) === down).sort(order);
    const sides = [mine.filter(i => right(i) < 0), mine.filter(i => right(i) >= 0)];
    const ports = [...sides[0].slice().reverse(), ...sides[1]];
    const step = Math.min(14, (w - 12) / (ports.length - 1 || 1));
    const over = row > 0 ? y - rows[row - 1] - h : y;
    const gap = down ? rows[row + 1] - y - h : over;
    for (const side of sides) side.forEach((i, k) => {
      const away = 14 + (gap - 14) * (side.length - k) / (side.length + 1); // room for a tip
      const port = ports.indexOf(i) - (ports.length - 1) / 2;
      found.set(i, { x: x + w / 2 + step * port, lane: down ? y + h + away : y - away, down });
    });
  }
  return found;
}
/** The arcs of the chosen word; width is how far, on one scale over the layers, whose largest
 * value is `top`. @param {Moved[]} shown @param {Box[]} boxes @param {number} word
 * @param {boolean} sends @param {number} top @returns {Line[]} */
function arcsOf(shown, boxes, word, sends, top) {
  const mine = boxes[word];
  const ports = portsOf(shown.map(({ i }) => i), boxes, word);
  const wrapped = boxes.some(({ y }) => y !== mine.y);
  const widths = shown.map(({ value }) => 1.2 + (wrapped ? 6.8 : 10.8) * Math.sqrt(value / top));
  const fit = Math.min(1, mine.w / widths.reduce((sum, width) => sum + width + 2, 0));
  return shown.map(({ i }, k) => {
    const box = boxes[i];
    const { x, lane, down } = ports.get(i) || { x: 0, lane: 0, down: false };
    const here = [x, down ? mine.y + mine.h : mine.y];
    const there = [box.x + box.w / 2, box.y < mine.y ? box.y + box.h : box.y];
    const [from, to] = sends ? [here, there] : [there, here];
    return wrapped ? bend(from, to, widths[k] * fit, lane)
      : arch(from, to, widths[k] * fit, mine.y - 12);
  });
}
/** The changes' arcs twice: over the first sentence, under the second.
 * @param {Change[]} changes @param {Box[]} boxes of the columns, in one line @returns {Line[]} */
function pairArcs(changes, boxes) {
  const top = Math.max(...changes.flatMap(({ before, after }) => [before, after]));
  /** @type {(word: number, other: number) => number[]} */
  const port = (word, other) => {
    const mine = changes.filter(({ t, s }) => t === word || s === word);
    const others = mine.map(({ t, s }) => t === word ? s : t);
    return [portsOf(others, boxes, word).get(other)?.x || 0, boxes[word].y];
  };
  return changes.flatMap(({ t, s, before, after }) => [before, after].map((far, row) => {
    const { y, h } = boxes[t];
    const line = arch(port(s, t), port(t, s), 1.2 + 9 * far / top, y - 24);
    return { ...line, flip: row ? 2 * y + h : 0 };
  }));
}
/** The pair over the layers on a logarithmic axis whose lines are decades. `values`: of each tile.
 * @param {number[]} values @param {number} width @param {number} height @param {number} gutter */
function trendOf(values, width, height, gutter) {
  const logs = values.filter(value => value > 0).map(Math.log10);
  const low = logs.length ? Math.floor(Math.min(...logs)) : 0;
  const high = logs.length ? Math.max(Math.ceil(Math.max(...logs)), low + 1) : 1;
  const step = (width - gutter) / values.length;
  const [top, bottom] = [22, height - 8];
  const y = (/** @type {number} */ log) => bottom - (bottom - top) * (log - low) / (high - low);
  const ticks = [];
  for (let power = low; power <= high; power += Math.ceil((high - low + 1) / 5))
    ticks.push({ y: y(power), text: digits(10 ** power) });
  const points = values.map((value, k) => ({ k, x: gutter + step * (k + 0.5),
    y: value > 0 ? y(Math.log10(value)) : NaN, text: digits(value) }));
  return { step, ticks, points: points.filter(point => point.y >= 0) };
}
/** Black or white, whichever stands out. @param {number[]} rgb */
function inkOn(rgb) {
  const [r, g, b] = rgb.map(part => (part / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

// --------------------------------------------------------------------------------------- the page
/** @param {string} key @param {string} told */
const segments = (key, told) => `<div class="bv-segments" role="radiogroup" aria-label="${told}">
  ${CHOICES[key].map(value => `<button role="radio" data-choice="${key}=${value}"
    data-key="${key} ${value}">${value}</button>`).join("")}</div>`;
/** @param {string} key @param {string} text */
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
<header class="bv-head" data-at="head"><p class="bv-eyebrow" data-at="eyebrow"></p>
  <h2 class="bv-headline" data-at="headline" role="status" aria-live="polite"></h2>
  <p class="bv-under" data-at="under"></p></header>
<div class="bv-shares" data-at="shares"></div>
<p class="bv-window" data-at="window"><span></span> <button data-act="earlier">← earlier</button>
  <button data-act="later">later →</button></p>
<div class="bv-stage" data-at="stage"><svg class="bv-arcs" data-at="arcs" aria-hidden="true"></svg>
  <div class="bv-sentence" data-at="sentence" role="toolbar"
    aria-label="The sentence: choose a word"></div></div>
<div class="bv-controls">${segments("direction", "The chosen word")}
  ${segments("drawing", "Drawn as")}
  <details class="bv-display"><summary>Display</summary><div>${box("special", "special tokens")}
    ${box("own", "own position, in the map")}${box("log", "logarithmic colours")}
    ${box("words", "word pieces joined")}${box("difference", "what changes in the second")}
  </div></details>
  <span class="bv-hint" data-at="hint"></span></div>
<section class="bv-strip"><h3 data-at="pair"></h3><div class="bv-scroll"><div class="bv-aligned">
  <button class="bv-play" data-act="play" data-at="play" aria-pressed="false"><svg
    viewBox="0 0 20 20" aria-hidden="true"><path></path></svg></button>
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
const PLAY = "M6 3.5v13l10.5-6.5z";
const PAUSE = "M5 4h3.5v12H5zM11.5 4H15v12h-3.5z";
const DRAWN = new Set(["svg", "g", "path", "rect", "text", "line", "circle", "polyline", "title"]);
/** An element, such as "i" or "p.bv-note"; of its children, what is empty is left out.
 * @param {string} kind @param {Record<string, any>} attributes @param {...any} children
 * @returns {any} */
function make(kind, attributes, ...children) {
  const [tag, name] = kind.split(".");
  const node = DRAWN.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  if (name) node.setAttribute("class", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.flat().filter(Boolean));
  return node;
}
/** @type {(kind: string, ...children: any[]) => any} */
const wrap = (kind, ...children) => make(kind, {}, ...children);
const css = (/** @type {number[] | null} */ rgb) => rgb ? `rgb(${rgb})` : "";
/** @type {(name: string, blob: Blob) => void} */
function download(name, blob) {
  const href = URL.createObjectURL(blob);
  make("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}
const save = (/** @type {string} */ page) =>
  download("view.html", new Blob([page], { type: "text/html" }));
/** A word as it is written everywhere: isolated, equal ones numbered, signs large or `told` in
 * English. @param {Pick<Word, "text" | "nth" | "special" | "sign">} word @param {boolean} told */
function written({ text, nth: which, special, sign }, told) {
  const size = !told && /^[,.;:-]$/.test(text) ? "bv-sign" : "";
  return make("bdi", { class: special ? "bv-special" : size },
    told && sign ? `the ${sign}` : text, which && wrap("sub", which));
}
/** @type {(word: Word, kind?: string) => any} */
const bold = (word, kind = "word") => wrap(`b.bv-${kind}`, written(word, true));
const focusedKey = () => /** @type {any} */ (document.activeElement)?.dataset?.key;
/** Draw, and give the focus back to what had it. @param {any} root @param {() => void} draw */
function keepingFocus(root, draw) {
  const held = root.contains(document.activeElement) && focusedKey();
  draw();
  if (held && focusedKey() !== held) root.querySelector(`[data-key="${held}"]`)?.focus();
}
function isDark() {
  if (matchMedia("print").matches) return false;
  const { dataset: lab, classList } = document.body;
  const { theme } = document.documentElement.dataset;
  if (theme) return theme === "dark";
  return lab.jpThemeLight ? lab.jpThemeLight === "false" : classList.contains("vscode-dark");
}
/** The numbers again, after another sentence or switch. @param {Ui} ui */
function derive(ui) {
  const { model, root } = ui;
  /** @type {Data} */
  const data = model.get("data");
  const settings = model.get("settings");
  const [, target, source] = model.get("selected");
  const around = settings.direction === "sends" ? source : target;
  Object.assign(ui, wordsOf(data, settings, around, ui.data?.of === data.of ? ui.start : 0));
  Object.assign(ui, { data, settings, painted: null, reasons: new Map(), hover: {} });
  ui.second = model.get("second").of === data.of ? model.get("second") : {};
  ui.comparing = Boolean(settings.difference && ui.second.values);
  ui.names = ui.second.names || ["the first", "the second"];
  ui.columns = ui.comparing ? aligned(ui.words, ui.second) : [];
  const through = belongs(model.get("through").of, data.of) ? model.get("through") : {};
  ui.panels = panelsOf(data, through, ui.comparing ? ui.second : {}, ui.words, settings.own);
  ui.scale = scaleOf(ui.panels, settings.own);
  ui.hidden = data.how.hidden || null;
  ui.label = data.label.replace(/ \(.*\)$/, ""); // the legend has all of it
  ui.dark = isDark();
  ui.colours = ramp(ui.dark ? data.ramp.dark : data.ramp.light);
  ui.contrast = ramp(ui.dark ? CHANGES.dark : CHANGES.light);
  root.classList.toggle("bv-dark", ui.dark);
  root.classList.toggle("bv-comparing", ui.comparing);
}
/** The paths and heads of a layer, once they are there.
 * @param {Ui} ui @param {number | "all"} layer @returns {Reason | null} */
function reasonOf({ model, data, words, reasons }, layer) {
  const why = model.get("why");
  const part = belongs(why.of, data.of) ? why.layers?.[layer] : null;
  if (!part) return null;
  const known = reasons.get(layer);
  if (known && known.part === part) return known;
  const size = data.tokens.length;
  const heads = floats(part.heads) || new Float32Array();
  const paths = Object.entries(part.paths).map(([name, text]) =>
    ({ name, flat: floats(text) || new Float32Array(), own: /residual|query/.test(name) }));
  /** @type {Matrix[]} */
  const maps = [];
  /** @type {Reason} */
  const made = { part, count: part.count,
    map: head => maps[head] ||= matrix(heads, size, head, words),
    heads: (t, s) => Array.from({ length: part.count }, (_, head) =>
      block(heads, size, head, words[t], words[s])),
    paths: (t, s) => paths.filter(({ own }) => t === s || !own).map(({ name, flat }) =>
      ({ name, value: block(flat, size, 0, words[t], words[s]) })) };
  reasons.set(layer, made);
  return made;
}
/** What is looked at now: the pointer goes before what was clicked. `shown` is the layer, or one
 * head of it alone. @param {Ui} ui */
function now(ui) {
  const { model, settings, words, panels, hover, hidden } = ui;
  const [chosen, target, source] = model.get("selected");
  const sends = settings.direction === "sends";
  const layer = hover.layer ?? chosen;
  const found = panels.find(({ id }) => id === layer);
  /** @type {Panel} */
  const panel = found || { id: layer, name: "through all layers", errors: null, other: null,
    spread: null, values: words.map(() => words.map(() => NaN)) };
  const reason = reasonOf(ui, layer);
  const asked = hover.head ?? settings.head ?? null;
  /** @type {number | null} */
  const head = reason && asked !== null && asked < reason.count ? asked : null;
  /** @type {Panel} */
  const shown = reason && head !== null
    ? { ...panel, values: reason.map(head), errors: null, other: null, spread: null } : panel;
  const [t, s] = [target, source].map(position =>
    Math.max(words.findIndex(({ at }) => at.includes(position)), 0));
  const pair = hover.pair || [t, s];
  const word = hover.word ?? pair[sends ? 1 : 0];
  const list = listOf(shown.values, word, sends);
  return { layer, computed: Boolean(found), panel, shown, reason, head, word, sends, t, s, pair,
    list, order: ranked(list, word, hidden), changes: changesOf(shown, words, hidden) };
}
/** A colour, or null where nothing is to be shown.
 * @type {(ui: Ui, drawn: Drawn, t: number, s: number) => number[] | null} */
function shade({ settings, scale, colours, contrast }, { values, other, spread }, t, s) {
  const value = values[t][s];
  if (Number.isNaN(value) || (t === s && !settings.own)) return null;
  if (!other || !spread) return colours[Math.round(255 * place(value, scale, settings.log))];
  const change = Math.log2(other[t][s] / value) / (2 * spread.end);
  return Number.isNaN(change) ? null : contrast[Math.round(255 * within(0.5 + change, 0, 1))];
}
/** The answer in words. @param {Ui} ui @param {Look} look */
function headline({ words, label }, { word, list, order: [best], sends }) {
  const mine = bold(words[word], "chosen");
  const measured = list.some((value, i) => i !== word && value >= 0) || list.length < 2;
  if (!measured && sends) return ["Not measured: what ", mine, " moves"];
  if (!measured) return ["Not measured: what moves ", mine];
  if (!best) return sends ? [mine, " moves nothing"] : ["Nothing moves ", mine];
  const first = bold(words[best.i], "best");
  const [from, to] = sends ? ["column", "row"] : ["row", "column"];
  if (label) return [`In the ${from} of `, mine, `, ${label} is largest in the ${to} of `, first];
  return sends ? [mine, " moves ", first, " most"] : [mine, " is moved most by ", first];
}
/** Where that is and how far it moves. @param {Ui} ui @param {Look} look */
function underHeadline({ words, label }, { word, order: [best], sends }) {
  if (!best) return [];
  const away = Math.abs(best.i - word);
  const where = away === 1 ? "Right beside it" : `${away} places away`;
  if (best.far === null) return [`${where}; ${label || "influence"} ${digits(best.value)}.`];
  const [from, to] = sends ? [word, best.i] : [best.i, word];
  return [`${where}, `, bold(words[to]), ` moves ${two(best.far)} times as far as `,
    bold(words[from]), " was pushed."];
}
/** What two sentences, or two models, differ in most. @param {Ui} ui @param {Look} look */
function comparison({ words, columns, names, hidden }, { changes: [best] }) {
  if (!best) return [`In ${names[1]} nothing changes`];
  const swaps = columns.filter(({ swapped }) => swapped);
  const swap = swaps.length === 1 && swaps[0].text && swaps[0].other ? swaps[0] : null;
  const front = swap ? ["With ", wrap("b.bv-chosen", swap.other), " for ",
    wrap("b.bv-chosen", swap.text), ", "] : [`In ${names[1]}, `];
  const name = (/** @type {number} */ i) => swap?.word === i ? "it" : bold(words[i], "chosen");
  return [...front, name(best.s), " moves ", name(best.t), " ", wrap("b.bv-best", times(best)),
    hidden ? " as far" : ""];
}
/** @param {Ui} ui @param {Look} look */
function drawHead(ui, look) {
  const { at, names, comparing } = ui;
  const { panel, shown, head, computed } = look;
  const compared = shown.other ? `, ${names.join(" and ")}` : `, ${names[0]} alone`;
  at.eyebrow.textContent = panel.name + (head === null ? "" : `, head ${head} alone`)
    + (comparing ? compared : "");
  if (shown.other) {
    at.headline.replaceChildren(...comparison(ui, look));
    at.under.textContent = `The three largest changes: ${names[0]} above, ${names[1]} below.`;
  } else {
    at.headline.replaceChildren(...(computed ? headline(ui, look)
      : ["The way through all layers is being computed"]));
    at.under.replaceChildren(...underHeadline(ui, look));
  }
  at.headline.style.setProperty("--long", Math.max(at.headline.textContent.length, 1));
  at.shares.replaceChildren(...(shown.other ? drawChanges(ui, look) : drawShares(ui, look)));
}
/** @param {Ui} ui @param {Look} look */
function drawShares({ words, settings, label, data, hidden, places }, look) {
  const { word, order, sends, t, s } = look;
  const name = written(words[word], true);
  let whole = settings.special ? "Of all that " : "Of the words that ";
  if (places.length > words.length) whole = `Of these ${words.length}: all that `;
  let title = sends ? [whole, name, " moves"] : [`${whole}moves `, name];
  if (label) title = [`Of ${data.label} in the ${sends ? "column" : "row"} of `, name];
  const unit = label ? "value" : "influence";
  const rows = order.slice(0, 3).map(({ i, share, far, value }, k) => make("button.bv-share",
    { "data-other": i, "data-key": `share ${k}`, "data-rank": k, style: `--size: ${100 * share}%`,
      "aria-pressed": i === (sends ? t : s) },
    written(words[i], true), wrap("i", wrap("b")), wrap("span", percent(share)),
    wrap("span", hidden ? two(far) : digits(value))));
  return [wrap("p", wrap("span", ...title), wrap("span", label ? "share" : "share of squares"),
    wrap("span", hidden ? "how far" : unit)), ...rows];
}
/** @param {Ui} ui @param {Look} look */
function drawChanges({ words, columns }, { changes }) {
  const top = Math.max(...changes.flatMap(({ before, after }) => [before, after]));
  const name = (/** @type {number} */ i) => {
    const column = columns.find(({ word }) => word === i);
    if (!column?.swapped || !column.other) return spoken(words[i]);
    return `${isolated(column.text)} / ${isolated(column.other)}`;
  };
  return changes.map((change, k) => {
    const { t, s, before, after } = change;
    const style = `--from: ${before / top}; --to: ${after / top}`;
    return make("button.bv-change", { "data-pair": `${t} ${s}`, "data-key": `change ${k}`, style },
      wrap("span", `${name(s)} → ${name(t)}`), wrap("i"),
      wrap("span", `${two(before)} → ${two(after)}`), wrap("em", times(change)));
  });
}
/** The buttons, once for a sentence. @param {Ui} ui */
function makeChips(ui) {
  const { words, at, columns, start, places, data, settings, model } = ui;
  ui.chips = words.map((word, i) => make("button", { "data-word": i, "data-key": `word ${i}`,
    class: `bv-chip${word.apart ? " bv-apart" : ""}` }, written(word, false), wrap("small")));
  const plain = (/** @type {string} */ text) => wrap("span.bv-chip", written({ text: text || "–",
    special: /^(\[\w+\]|<.+>)$/.test(text), nth: 0, sign: "" }, false), wrap("small"));
  const pairs = columns.map(({ word, text, other, swapped }) =>
    make("div", { class: `bv-column${swapped ? " bv-swapped" : ""}` },
      word === null ? plain(text) : ui.chips[word], plain(other)));
  at.sentence.replaceChildren(...(ui.comparing ? pairs : ui.chips));
  at.sentence.dir = directionOf(words);
  at.arcs.replaceChildren(...Array.from({ length: Math.max(words.length, 6) }, () =>
    wrap("g", wrap("path.bv-arc"), wrap("path.bv-tip"))));
  at.window.hidden = places.length <= words.length;
  at.window.firstChild.textContent = `${settings.words ? "Words" : "Tokens"} ${start + 1} to `
    + `${start + words.length} of ${places.length}`;
  at.note.textContent = [!model.get("live") && data.title, model.get("second").note]
    .filter(Boolean).join(" – ");
}
/** @param {Ui} ui @param {Look} look */
function drawChips(ui, { word, order, sends, shown, t, s }) {
  const { words, hidden, comparing } = ui;
  const best = leading(order, mostArcs(ui)).map(({ i }) => i);
  const chosen = sends ? s : t;
  ui.chips.forEach((chip, i) => {
    const moved = order.find(one => one.i === i);
    const number = moved && (hidden ? two(moved.far) : digits(moved.value));
    const far = `${sends ? "moves" : "moves it"} ${number} times as far`;
    const rgb = comparing || i === word ? null : shade(ui, shown, ...pairOf(sends, word, i));
    chip.classList.toggle("bv-chosen", !comparing && i === word);
    chip.style.background = css(rgb);
    chip.style.color = rgb ? inkOn(rgb) : "";
    chip.lastChild.textContent = !comparing && best.includes(i) ? number : "";
    chip.tabIndex = i === chosen ? 0 : -1;
    chip.setAttribute("aria-pressed", i === chosen);
    chip.setAttribute("aria-label", spoken(words[i])
      + (number ? `, ${hidden ? far : number}` : ""));
  });
}
/** How many arcs there is room for. @param {Ui} ui */
function mostArcs({ at: { stage } }) {
  if (stage.classList.contains("bv-tall")) return 3;
  return stage.classList.contains("bv-wrapped") ? 4 : 5;
}
/** The largest letters with which the sentence takes the fewest lines. @param {Ui} ui */
function fitChips({ at: { sentence, stage }, comparing }) {
  const items = [...sentence.children];
  const tried = [30, 28, 26, 24, 22, 20, 18, 17, 16].slice(comparing ? 4 : 0).map(size => {
    stage.style.setProperty("--letters", `${size}px`);
    return { size, lines: new Set(items.map(item => item.offsetTop)).size };
  });
  const fewest = Math.min(...tried.map(({ lines }) => lines));
  const fits = tried.find(({ lines, size }) => lines === fewest && (lines === 1 || size < 21));
  stage.style.setProperty("--letters", `${fits?.size || 16}px`);
  stage.classList.toggle("bv-wrapped", fewest > 1);
  stage.classList.toggle("bv-tall", fewest > 3);
}
/** @param {Ui} ui @param {Look} look */
function linesOf(ui, { word, order, sends, head, list, changes }) {
  const { chips, at, comparing, settings, panels } = ui;
  if (settings.drawing !== "arcs") return [];
  const boxOf = (/** @type {any} */ node) =>
    ({ x: node.offsetLeft, y: node.offsetTop, w: node.offsetWidth, h: node.offsetHeight });
  if (comparing) return at.stage.classList.contains("bv-wrapped") ? []
    : pairArcs(changes, chips.map(chip => boxOf(chip.parentElement)));
  const lists = head === null ? panels.map(({ values }) => listOf(values, word, sends)) : [list];
  const top = Math.max(...lists.flatMap(one => one.filter((value, i) => i !== word && value > 0)));
  return arcsOf(leading(order, mostArcs(ui)), chips.map(boxOf), word, sends, top);
}
/** @param {Ui} ui @param {Look} look */
function drawArcs(ui, look) {
  const { at, settings, comparing } = ui;
  at.stage.classList.toggle("bv-bare", settings.drawing !== "arcs"); // this moves the words
  const lines = linesOf(ui, look);
  [...at.arcs.children].forEach((node, k) => {
    const line = lines[k];
    const first = k === 0 || (comparing && k === 1);
    node.setAttribute("class", line ? `bv-shown${first ? " bv-first" : ""}` : "");
    if (!line) return;
    const [arc, tip] = node.children;
    arc.setAttribute("d", line.d);
    tip.setAttribute("d", line.tip);
    node.setAttribute("transform", line.flip ? `translate(0 ${line.flip}) scale(1 -1)` : "");
    arc.style.strokeWidth = `${line.width}px`;
  });
}
/** A small map, a pixel a cell. @param {Ui} ui @param {Drawn} drawn */
function thumbnail(ui, drawn) {
  const n = ui.words.length;
  const pixels = new ImageData(n, n);
  drawn.values.forEach((row, t) => row.forEach((_, s) => {
    const rgb = shade(ui, drawn, t, s);
    pixels.data.set(rgb ? [...rgb, 255] : [128, 128, 128, 40], 4 * (t * n + s));
  }));
  const canvas = make("canvas", { width: n, height: n, "aria-hidden": "true" });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
/** @param {Ui} ui */
function makeTiles(ui) {
  const { panels, data, model, at } = ui;
  /** @type {{id: number | "all", name: string, map: any}[]} */
  const shown = panels.map(panel => ({ ...panel, map: thumbnail(ui, panel) }));
  if (model.get("live") && panels.length === data.layers.length)
    shown.push({ id: "all", name: "through all layers (compute)", map: wrap("canvas") });
  at.layers.replaceChildren(...shown.map(({ id, name, map }) => {
    const [, front = "", back = name] = /^(layer |through )(\d+$|all)/.exec(name) || [];
    return make("button.bv-tile", { "data-layer": id, "data-key": `layer ${id}`,
      "aria-label": name }, map, wrap("span", wrap("em", front), back));
  }));
}
/** @param {Ui} ui @param {Look} look */
function drawPair({ at, words, label }, { panel, computed, head, t, s }) {
  const where = `in each layer${head === null ? "" : ", all heads"}`;
  const value = digits(panel.values[t][s]);
  const error = panel.errors?.[t][s] || 0;
  const mine = ranked(panel.values[t], t, null).find(({ i }) => i === s);
  const share = mine && !label ? [` · ${percent(mine.share)} of what `, bold(words[t]),
    " receives from others"] : [];
  at.pair.replaceChildren(wrap("b", `${spoken(words[s])} → ${spoken(words[t])} ${where}`),
    wrap("em", computed && [`${label || "influence"} ${placeOf(panel)}: ${value}`,
      error > 0 && ` ± ${digits(error)} (estimate)`, ...share]));
}
/** @param {Panel} panel */
const placeOf = ({ id, name }) => id === "all" ? name : `in ${name}`;
/** The pair's values under the tiles. @param {Ui} ui @param {Look} look */
function drawTrend(ui, look) {
  const { at, panels, data } = ui;
  const { panel, t, s } = look;
  drawPair(ui, look);
  const tiles = [...at.layers.children];
  for (const tile of tiles) {
    const chosen = tile.dataset.layer === String(panel.id);
    tile.tabIndex = chosen ? 0 : -1;
    tile.setAttribute("aria-pressed", chosen);
  }
  const { width, height } = at.trend.getBoundingClientRect();
  const gutter = at.layers.offsetLeft;
  const depth = data.layers.length;
  const values = tiles.map((_, k) => panels[k] ? panels[k].values[t][s] : NaN);
  const { points, ticks, step } = trendOf(values, width, height, gutter);
  const line = points.filter(({ k }) => k < depth).map(({ x, y }) => `${x},${y}`).join(" ");
  const apart = width - step;
  at.trend.replaceChildren(
    ...ticks.flatMap(({ y, text }) => [
      make("line", { x1: gutter, x2: width, y1: y, y2: y }),
      make("text", { x: gutter - 8, y: y + 4, "text-anchor": "end", class: "bv-tick" }, text)]),
    ...tiles.slice(depth).map(() =>
      make("line.bv-apart", { x1: apart, x2: apart, y1: 0, y2: height })),
    make("polyline", { points: line }),
    ...points.flatMap(({ x, y, k, text }) => {
      const chosen = panels[k] === panel;
      const other = k < depth ? "" : "bv-all";
      const kind = chosen ? "bv-now" : other;
      const dot = make("circle", { cx: x, cy: y, r: chosen ? 5 : 3.5, class: kind });
      const told = make("text", { x, y: y - 9, "text-anchor": "middle",
        class: `bv-value ${kind}` }, text);
      return kind || step > 30 ? [dot, told] : [dot];
    }));
}
/** @param {Ui} ui */
function makeMap(ui) {
  const { words, at } = ui;
  const n = words.length;
  const labels = words.map(word => /^[\u3000-\u9fff\uac00-\ud7af\uff00-\uffef]+$/.test(word.text)
    ? "bv-label bv-upright" : "bv-label");
  /** @type {(i: number, side: string, role: string, area: string) => any} */
  const label = (i, side, role, area) => make("div", { class: `${labels[i]} bv-${side}`, role,
    "data-word": i, style: `grid-area: ${area}`, title: words[i].text }, written(words[i], false));
  /** @type {(t: number, s: number) => any} */
  const cell = (t, s) => make("div", { role: "gridcell", tabindex: -1, "data-cell": t * n + s,
    class: `bv-cell${words[t].apart ? " bv-below" : ""}${words[s].apart ? " bv-beside" : ""}`,
    "data-key": `cell ${t * n + s}`, style: `grid-area: ${t + 2} / ${s + 2}` });
  const rows = words.map((_, t) => words.map((_, s) => cell(t, s)));
  ui.cells = rows.flat();
  at.map.style.setProperty("--count", n);
  at.map.classList.toggle("bv-many", n > 20);
  at.map.replaceChildren(
    make("div.bv-row", { role: "row" },
      words.map((_, s) => label(s, "top", "columnheader", `1 / ${s + 2}`))),
    ...rows.map((row, t) => make("div.bv-row", { role: "row" },
      label(t, "side", "rowheader", `${t + 2} / 1`), row)),
    wrap("div.bv-band"));
}
/** @param {Ui} ui @param {Look} look */
function drawMap(ui, { shown, word, sends, t, s }) {
  const { words, cells, at } = ui;
  const n = words.length;
  const names = words.map(spoken);
  if (ui.painted !== shown.values) cells.forEach((cell, i) => {
    const [to, from] = [Math.floor(i / n), i % n];
    const value = shown.values[to][from];
    cell.style.background = css(shade(ui, shown, to, from));
    cell.classList.toggle("bv-unknown", Number.isNaN(value));
    cell.setAttribute("aria-label", `${names[from]} → ${names[to]}: ${digits(value)}`);
  });
  ui.painted = shown.values;
  ui.picked?.setAttribute("aria-selected", "false");
  if (ui.picked) ui.picked.tabIndex = -1;
  ui.picked = cells[t * n + s];
  ui.picked.setAttribute("aria-selected", "true");
  ui.picked.tabIndex = 0;
  at.map.lastChild.style.gridArea = sends ? `2 / ${word + 2} / ${n + 2} / ${word + 3}`
    : `${word + 2} / 2 / ${word + 3} / ${n + 2}`;
}
/** The words on both sides of the lines. @param {Ui} ui */
function makeLines(ui) {
  const { words, at } = ui;
  const texts = words.map(({ text, nth: which }) => {
    const low = String(which || "").replace(/\d/g, digit => "₀₁₂₃₄₅₆₇₈₉"[Number(digit)]);
    return (text.length > 26 ? `${text.slice(0, 25)}…` : text) + low;
  });
  const step = words.length > 32 ? 16 : 24;
  const left = Math.min(Math.max(...words.map(({ text }) => text.length)), 26) * 8 + 24;
  const width = 2 * left + 190;
  const right = width - left;
  const y = (/** @type {number} */ i) => 34 + step * i;
  /** @type {(side: string, x: number, anchor: string) => any[]} */
  const labels = (side, x, anchor) => [
    make("text", { x, y: 12, "text-anchor": anchor, class: "bv-tick" }, side),
    ...texts.map((text, i) => make("text", { x, y: y(i) + 4, "text-anchor": anchor,
      "data-word": i, "data-side": side }, wrap("title", words[i].text), text))];
  ui.curve = (t, s) => `M${left + 8},${y(s)} C${width / 2},${y(s)} ${width / 2},${y(t)} `
    + `${right - 8},${y(t)}`;
  at.lines.setAttribute("viewBox", `0 0 ${width} ${40 + step * words.length}`);
  at.lines.style.maxWidth = `${Math.max(width, 460)}px`;
  at.lines.replaceChildren(wrap("g"), ...labels("sends", left, "end"),
    ...labels("receives", right, "start"));
}
/** The chosen word's lines, and the strongest others faint. @param {Ui} ui @param {Look} look */
function drawLines(ui, { shown, word, sends }) {
  const { at, words, curve, settings } = ui;
  const { values, other, spread } = shown;
  const all = values.flatMap((row, t) => row.map((value, s) => {
    const change = other && spread && Math.abs(Math.log2(other[t][s] / value)) / spread.end;
    return { t, s, size: change === null ? Math.sqrt(value) : Math.min(change, 1) };
  })).filter(({ t, s, size }) => t !== s && size > 0).sort((a, b) => b.size - a.size);
  /** @type {(line: {t: number, s: number}) => boolean} */
  const isMine = ({ t, s }) => (sends ? s : t) === word;
  /** @type {(line: {t: number, s: number}, kind: string, width: number) => any} */
  const draw = ({ t, s }, kind, width) => make("path", { class: kind, "stroke-width": width,
    "data-cell": t * words.length + s, d: curve(t, s),
    style: other ? `stroke: ${css(shade(ui, shown, t, s))}` : "" });
  at.lines.firstChild.replaceChildren(
    ...all.filter(line => !isMine(line)).slice(0, 12).map(line => draw(line, "bv-others", 1)),
    ...all.filter(isMine).map(line => draw(line, "bv-mine", 0.5 + 9 * line.size / all[0].size)));
  for (const { dataset, classList } of at.lines.querySelectorAll("[data-side]"))
    classList.toggle("bv-mine", Number(dataset.word) === word
      && dataset.side === settings.direction);
}
/** @param {Ui} ui @param {Look} look */
function drawSecond(ui, look) {
  const { at, settings, words, label, root } = ui;
  const lines = settings.drawing === "lines";
  const rows = label ? "row: the target · column: the source"
    : "row: who is moved · column: who is pushed";
  at.drawn.replaceChildren(lines ? "Lines" : "Map", wrap("em",
    lines ? "the chosen word’s, and the twelve strongest others" : rows));
  at.map.toggleAttribute("hidden", lines);
  at.lines.toggleAttribute("hidden", !lines);
  at.second.classList.toggle("bv-wide", settings.drawing !== "arcs" || words.length > 20);
  root.classList.toggle("bv-stacked", words.length > 32);
  if (lines) drawLines(ui, look);
  else drawMap(ui, look);
  drawLegend(ui, look);
}
/** @param {Ui} ui @param {Look} look */
function drawLegend({ at, scale, settings, names, data, colours, contrast, panels }, { shown }) {
  const { low, least, high } = scale;
  const { spread } = shown;
  const lines = settings.drawing === "lines";
  const partial = panels.some(({ values }) => values.every(row => row.every(Number.isNaN)));
  const layers = partial ? "the layers measured so far" : "all layers";
  const [to, from] = lines ? ["word on the right", "one on the left"] : ["row’s word", "column’s"];
  const what = data.label ? capital(data.label) : `Influence: how far the ${to} moves when `
    + `the ${from} is pushed a little, squared and summed over the numbers of the push; no unit.`
    + ` One scale for ${layers}. Sensitivity: what is loud need not carry news`;
  let text = `${what}.`;
  let width = "the root of the value";
  let ends = [0, high / 2, high].map(digits);
  if (settings.log) ends = [low, Math.sqrt(low * high), high].map(digits);
  if (settings.log && least < low) ends[0] = `≤ ${ends[0]}`;
  if (spread) {
    text = `${capital(names[1])} relative to ${names[0]}; a scale for each layer.`;
    if (spread.beyond)
      text += ` ${spread.beyond} of ${spread.of} lie beyond the ends and have their colours.`;
    width = "how much it changes";
    ends = [-1, 0, 1].map(end => `× ${digits(2 ** (spread.end * end))}`);
  }
  if (lines) text = `Width: ${width}, the widest here is the largest. ${text}`;
  const stops = (spread ? contrast : colours).filter((_, i) => i % 15 === 0).map(css);
  const bar = make("i", { style: `background: linear-gradient(to right, ${stops})` });
  const coloured = spread || !lines;
  at.legend.replaceChildren(...(coloured ? [bar, ...ends.map(end => wrap("span", end))] : []),
    wrap("p", text));
}
/** Why there are no paths and heads, if there is something to say.
 * @param {Ui} ui @param {Look} look */
function whyNot({ model, playing, hasReasons }, { reason, layer }) {
  const live = model.get("live");
  if (layer === "all" && (live || hasReasons))
    return "Through all layers no one set of paths exists. Choose one layer for paths and heads.";
  if (!reason && playing) return "Paths and heads follow where it stops.";
  if (layer === "all" || (!live && (reason || !hasReasons))) return "";
  if (!live) return "Paths and heads of this layer were not asked for before the page was saved.";
  return reason ? "This layer has no closed form: paths and heads are not known."
    : "Computing paths and heads …";
}
/** @param {Ui} ui @param {Look} look */
function drawWhy(ui, look) {
  const { reason, t, s, panel } = look;
  const { words, at, comparing, names } = ui;
  const parts = reason ? stacked(reason.paths(t, s)) : [];
  ui.hasReasons ||= Boolean(reason);
  ui.unfolded = at.why.querySelector(".bv-more")?.open ?? ui.unfolded;
  if (!reason || (!parts.length && !reason.count)) {
    const text = whyNot(ui, look);
    return at.why.replaceChildren(...(text ? [wrap("h3", "Why"), wrap("p.bv-quiet", text)] : []));
  }
  const kinds = parts.map(({ name, value }) => `bv-${name}${value < 0 ? " bv-minus" : ""}`);
  const told = parts.map(({ name, value }) => `${name} ${digits(value)}`).join(", ");
  const stack = make("div.bv-stack", { role: "img", "aria-label": told },
    parts.map(({ start, size }, k) => make("b", { class: kinds[k],
      style: `left: ${100 * start}%; width: ${100 * size}%` })));
  const keys = wrap("ul.bv-keys", parts.map(({ name, value }, k) =>
    make("li", { class: kinds[k], "data-path": name, "data-value": value }, wrap("i"),
      wrap("strong", name), wrap("span", digits(value)), wrap("em", GLOSSES.get(name)))));
  at.why.replaceChildren(
    wrap("h3", "Why ", bold(words[t]), " hears ", bold(words[s]), wrap("em",
      digits(panel.values[t][s]) + ` in ${panel.name}${comparing ? `, ${names[0]}` : ""}`)),
    ...(parts.length ? [stack, keys] : []), ...drawHeads(ui, look, reason));
}
/** Four of them, the largest, and the others folded; each with its map.
 * @param {Ui} ui @param {Look} look @param {Reason} reason */
function drawHeads(ui, { t, s, panel }, reason) {
  const { settings, unfolded } = ui;
  const heads = reason.heads(t, s).map((value, head) => ({ value, head }))
    .sort((a, b) => b.value - a.value);
  if (!heads.length) return [];
  const high = heads[0].value || 1;
  const least = 1e-4 * Math.max(panel.values[t][s], high);
  const text = (/** @type {number} */ value) => value < least ? "0" : digits(value);
  const bars = heads.map(({ value, head }) => make("button.bv-bar", { "data-head": head,
    "data-key": `head ${head}`, "data-value": value, style: `--size: ${100 * value / high}%`,
    "aria-pressed": settings.head === head },
  thumbnail(ui, { values: reason.map(head), other: null, spread: null }),
  wrap("span", `head ${head}`), wrap("i", wrap("b")), wrap("span", text(value))));
  const rest = heads.slice(4);
  const more = rest.length && wrap("details.bv-more", wrap("summary",
    `${rest.length} more, each ${text(rest[0].value)} or less`), bars.slice(4));
  if (more) more.open = Boolean(unfolded) || rest.some(({ head }) => head === settings.head);
  return [wrap("h4", "Heads, each alone", wrap("em", "they overlap and do not add up")),
    ...bars.slice(0, 4), ...(more ? [more] : [])];
}
/** @param {Ui} ui @param {Look} look */
function drawHint({ words, names, hover, comparing, settings, at }, { panel, shown, head, pair }) {
  const said = () => says(shown, words, pair[0], pair[1], names[1]);
  const unknown = comparing && !panel.other;
  const alone = comparing && !unknown && head !== null;
  const told = [];
  if (unknown) told.push(`${capital(names[1])} was not measured ${placeOf(panel)}: colours are `
    + `those of ${names[0]}.`);
  if (alone) told.push(`Heads are known for ${names[0]} alone.`);
  if (head !== null) told.push(`Head ${head} alone: ${said()}.`,
    hover.head === undefined ? "Click it again for all heads." : "Click to keep it.");
  else if (hover.pair) told.push(said());
  else if (!unknown)
    told.push(matchMedia("(pointer: coarse)").matches
      ? `Tap a word to see what it ${settings.direction}.`
      : `Point at a word to see what it ${settings.direction}; click to keep it.`);
  at.hint.textContent = told.join(" ");
}
/** The switches, as they are set. @param {Ui} ui */
function drawChoices({ root, settings, second, data }) {
  /** @type {Record<string, boolean>} those with nothing to switch */
  const idle = { difference: !second.values, special: !data.special.length,
    words: data.words.length === data.tokens.length };
  for (const node of root.querySelectorAll("[data-choice]")) {
    const [key, value] = node.dataset.choice.split("=");
    if (value) {
      node.setAttribute("aria-checked", settings[key] === value);
      node.tabIndex = settings[key] === value ? 0 : -1;
    } else {
      node.checked = settings[key];
      node.parentElement.hidden = Boolean(idle[key]);
    }
  }
}
/** Everything that follows the settings and, where `pointed`, the pointer alone.
 * @param {Ui} ui @param {boolean} [pointed] */
function paint(ui, pointed = false) {
  const { settings, at, data, model, root } = ui;
  const look = now(ui);
  keepingFocus(root, () => {
    if (!pointed) {
      drawChoices(ui);
      at.call.hidden = true;
      at.head.style.minHeight = "";
    }
    if (!pointed || ui.playing) {
      drawWhy(ui, look);
      drawTrend(ui, look);
    }
    for (const draw of [drawHead, drawChips, drawArcs, drawSecond, drawHint]) draw(ui, look);
  });
  at.caption.textContent = captionOf(data, look);
  root.dataset.state = JSON.stringify({ selected: model.get("selected"), ...settings,
    of: data.of });
  tell(ui);
}
/** What the words, the colours and the elements for them are made from. @param {Ui} ui */
function madeOf({ model }) {
  const { head, drawing, ...settings } = model.get("settings");
  return [model.get("data"), model.get("through"), model.get("second"), JSON.stringify(settings)];
}
/** After any change in the model. @param {Ui} ui */
function refresh(ui) {
  const { model, words, places, sources } = ui;
  const [, target, source] = model.get("selected");
  const position = ui.settings.direction === "sends" ? source : target;
  const inside = words.some(({ at }) => at.includes(position)) || places.length === words.length;
  const same = madeOf(ui).every((source, i) => source === sources[i]);
  fillInput(ui);
  ui.settings = model.get("settings");
  if (inside && same) paint(ui);
  else rebuild(ui);
}
/** After another sentence, switch or theme. @param {Ui} ui */
function rebuild(ui) {
  ui.sources = madeOf(ui);
  fillInput(ui);
  keepingFocus(ui.root, () => {
    derive(ui);
    for (const draw of [makeChips, makeTiles, makeMap, makeLines, fitChips, paint]) draw(ui);
  });
}
/** How far a computation is, what is wrong with the input, or that nobody answers.
 * @param {Ui} ui @param {boolean} [silent] */
function tell(ui, silent = false) {
  const { model, at, root, settings, data, panels, saving } = ui;
  const status = model.get("status");
  const live = model.get("live");
  const [layer] = model.get("selected");
  const busy = ["busy", "more"].includes(status.state);
  const ended = ["error", "stopped"].includes(status.state);
  const stale = live && isStale(data, settings);
  const whole = layer === "all" ? panels.some(({ id }) => id === "all") : reasonOf(ui, layer);
  const waits = live && !ended && (stale || busy || !whole);
  clearTimeout(ui.patience);
  if (waits && !silent) ui.patience = setTimeout(() => tell(ui, true), busy ? 30000 : 5000);
  root.dataset.ready = stale && !ended ? "busy" : status.state;
  root.classList.toggle("bv-stale", stale);
  root.toggleAttribute("aria-busy", stale && waits);
  at.status.hidden = !live;
  at.status.setAttribute("role", status.state === "error" || silent ? "alert" : "none");
  const [text, bar, stop, trace] = at.status.children;
  bar.hidden = stop.hidden = !busy || silent;
  bar.value = status.done || 0;
  trace.textContent = status.trace || "";
  text.textContent = saving ? "Writing the page …" : status.text || "";
  if (silent) text.textContent = "Python does not answer. If it was restarted, run the cell again.";
}
/** @param {Ui} ui @param {Record<string, any>} changes */
function send({ model }, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value);
  model.save_changes();
}
/** @param {Ui} ui @param {Settings} changes */
const choose = (ui, changes) =>
  send(ui, { settings: { ...ui.model.get("settings"), ...changes } });
/** @type {(ui: Ui, layer: any, t: number, s: number) => void} */
const select = (ui, layer, t, s) =>
  send(ui, { selected: [layer, ui.words[t].at[0], ui.words[s].at[0]] });
/** Target and source. @type {(sends: boolean, word: number, other: number) => [number, number]} */
const pairOf = (sends, word, other) => sends ? [other, word] : [word, other];
/** A word, and with it the one at the strong end. @param {Ui} ui @param {number} word */
function lock(ui, word) {
  const { layer, shown, sends } = now(ui);
  const [best] = ranked(listOf(shown.values, word, sends), word, null);
  select(ui, layer, ...pairOf(sends, word, best ? best.i : word));
}
/** One layer after the other, once; where it stops is chosen. @param {Ui} ui @param {boolean} on */
function play(ui, on) {
  const { at, playing: was } = ui;
  clearTimeout(ui.timer);
  ui.playing = on;
  at.play.setAttribute("aria-pressed", on);
  at.play.setAttribute("aria-label", on ? "Pause" : "Play the layers");
  at.play.querySelector("path").setAttribute("d", on ? PAUSE : PLAY);
  at.headline.setAttribute("aria-live", on ? "off" : "polite");
  if (!on && was) {
    const { layer, t, s } = now(ui);
    ui.hover = {};
    select(ui, layer, t, s);
  }
  const step = (/** @type {number} */ layer) => {
    ui.hover = { layer };
    paint(ui, true);
    const last = layer === ui.data.layers.length - 1;
    ui.timer = setTimeout(() => last ? play(ui, false) : step(layer + 1), 800);
  };
  if (on) step(0);
}
/** What is on screen as one svg, piece by piece, with where it comes from under it.
 * @param {Ui} ui */
function pictureOf({ at, root, data, settings }) {
  const areas = [at.head, at.shares, at.stage];
  if (at.second.open && settings.drawing !== "arcs") areas.push(at.second);
  const zero = root.getBoundingClientRect();
  const look = getComputedStyle(root);
  const bottom = Math.max(...areas.map(area => area.getBoundingClientRect().bottom)) - zero.y;
  const { width } = zero;
  const height = bottom + 64;
  const sentence = data.how.text || data.tokens.join(" ");
  const caption = at.caption.textContent;
  const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`,
    "font-family": "system-ui, sans-serif" },
  wrap("title", `${at.headline.textContent}. ${sentence}. ${caption}`),
  make("rect", { width, height, fill: look.backgroundColor }));
  for (const area of areas) {
    const walk = document.createTreeWalker(area, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    for (/** @type {any} */ let node = area; node; node = walk.nextNode()) {
      const host = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
      const hidden = !host.checkVisibility() || host.closest(".bv-arcs g:not(.bv-shown)");
      if (!hidden) svg.append(...(host === node ? shapeOf(node, zero) : textOf(node, zero)));
    }
  }
  [sentence, caption].forEach((text, k) => svg.append(make("text", { x: 32, "font-size": 12,
    y: bottom + 30 + 18 * k, fill: look.getPropertyValue("--quiet") }, text)));
  return svg;
}
/** A path, or the background of an element. @param {any} node @param {DOMRect} zero */
function shapeOf(node, zero) {
  const look = getComputedStyle(node);
  if (node.localName === "path") {
    const { a, b, c, d, e, f } = node.getScreenCTM();
    return [make("path", { d: node.getAttribute("d"), fill: look.fill, stroke: look.stroke,
      "stroke-width": look.strokeWidth,
      transform: `matrix(${[a, b, c, d, e - zero.x, f - zero.y]})` })];
  }
  if (look.backgroundColor === "rgba(0, 0, 0, 0)") return [];
  const { x, y, width, height } = node.getBoundingClientRect();
  return [make("rect", { x: x - zero.x, y: y - zero.y, width, height,
    rx: parseFloat(look.borderRadius) || 0, fill: look.backgroundColor })];
}
/** The words of a text, each where it stands. @param {any} node @param {DOMRect} zero */
function textOf(node, zero) {
  const host = node.parentElement;
  const look = getComputedStyle(host);
  const size = parseFloat(look.fontSize);
  const turned = host.closest(".bv-top:not(.bv-upright)");
  const range = document.createRange();
  return [...node.data.matchAll(/\S+/g)].map(({ index, 0: text }) => {
    range.setStart(node, index);
    range.setEnd(node, index + text.length);
    const { x, y, width, height } = range.getBoundingClientRect();
    const place = `translate(${x - zero.x + width / 2} ${y - zero.y + height / 2})`;
    return make("text", { transform: turned ? `${place} rotate(-90)` : place, y: size * 0.35,
      "font-size": size, "font-weight": look.fontWeight, "text-anchor": "middle",
      fill: host.closest("svg") ? look.fill : look.color }, text);
  });
}
/** @param {Ui} ui @param {string} kind svg or png */
function exported(ui, kind) {
  const text = new XMLSerializer().serializeToString(pictureOf(ui));
  if (kind === "svg") return download("influence.svg", new Blob([text], { type: "image/svg+xml" }));
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((/** @type {Blob} */ png) => download("influence.png", png));
  };
  image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
}
/** Another window of words. @param {Ui} ui @param {boolean} on */
function turn(ui, on) {
  const { start, places } = ui;
  const middle = start + (on ? 1.5 : -0.5) * SHOWN;
  const position = places[within(middle, 0, places.length - 1)];
  send(ui, { selected: [ui.model.get("selected")[0], position, position] });
  lock(ui, ui.words.findIndex(({ at }) => at.includes(position)));
}
/** @param {Ui} ui */
function copyCall({ at: { call }, data, settings, model }) {
  call.value = callOf(data, settings, model.get("selected"));
  call.hidden = false;
  call.select();
  navigator.clipboard?.writeText(call.value).catch(() => {}); // not allowed: it is selected
}
/** @param {Ui} ui @param {string} what */
function act(ui, what) {
  const { model } = ui;
  if (what === "svg" || what === "png") exported(ui, what);
  if (what === "copy") copyCall(ui);
  if (what === "reset") send(ui, model.get("initial"));
  if (what === "earlier" || what === "later") turn(ui, what === "later");
  if (what !== "page" && what !== "stop") return;
  model.send({ wanted: what });
  if (what === "page") ui.saving = model.get("live");
  tell(ui);
}
/** @param {Ui} ui @param {any} event */
function press(ui, { target }) {
  const node = target.closest("button, input[data-choice], [data-cell], [data-word]");
  if (!node) return;
  const { word, other, cell, pair, head, layer: wanted, act: what, choice } = node.dataset;
  const { settings, words } = ui;
  if (what === "play") return play(ui, !ui.playing);
  if (ui.playing) play(ui, false);
  const { layer, t, s, sends, word: looked } = now(ui);
  const n = words.length;
  ui.hover = {};
  if (word) lock(ui, Number(word));
  if (other) select(ui, layer, ...pairOf(sends, looked, Number(other)));
  if (cell) select(ui, layer, Math.floor(cell / n), cell % n);
  if (pair) select(ui, layer, Number(pair.split(" ")[0]), Number(pair.split(" ")[1]));
  if (wanted && settings.head !== null) choose(ui, { head: null });
  if (wanted) select(ui, wanted === "all" ? wanted : Number(wanted), t, s);
  if (head) choose(ui, { head: settings.head === Number(head) ? null : Number(head) });
  if (choice) {
    const [key, value] = choice.split("=");
    if (key === "drawing" && value !== "arcs") ui.at.second.open = true;
    choose(ui, { [key]: value || !settings[key] });
    if (key === "direction") lock(ui, sends ? s : t);
  }
  if (what) act(ui, what);
}
/** What the pointer or the focus is on. @param {Ui} ui @param {any} target */
function point(ui, target) {
  const { cell, word, head } = target.closest("[data-cell], [data-word], [data-head]")?.dataset
    || {};
  const n = ui.words.length;
  /** @type {Ui["hover"]} */
  let next = {};
  if (cell) next = { pair: [Math.floor(cell / n), cell % n] };
  else if (word) next = { word: Number(word) };
  else if (head) next = { head: Number(head) };
  if (ui.playing || JSON.stringify(next) === JSON.stringify(ui.hover)) return;
  ui.hover = next;
  const { head: top } = ui.at;
  top.style.minHeight = `${top.offsetHeight}px`; // what grew stays, or the words come and go
  paint(ui, true);
}
/** The arrow keys, Home and End, inside what is one tab stop. @param {Ui} ui @param {any} event */
function move(ui, event) {
  const { target, key } = event;
  if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // a notebook's "dd" deletes a cell
  const group = target.closest("[role=toolbar], [role=radiogroup], [role=grid]");
  if (!group) return;
  const grid = group === ui.at.map;
  const items = grid ? ui.cells : [...group.querySelectorAll("button")];
  if (grid && (key === "Enter" || key === " ")) {
    event.preventDefault(); // or the page scrolls
    return target.click();
  }
  const at = items.indexOf(target);
  const across = grid ? ui.words.length : 1;
  const first = grid ? at - at % across : 0;
  const last = grid ? first + across - 1 : items.length - 1;
  const on = group.dir === "rtl" ? -1 : 1;
  /** @type {Record<string, number>} */
  const places = { ArrowRight: at + on, ArrowLeft: at - on, ArrowDown: at + across,
    ArrowUp: at - across, Home: first, End: last };
  if (!(key in places)) return;
  event.preventDefault();
  const node = items[within(places[key], 0, items.length - 1)];
  node.focus();
  if (group.matches("[role=radiogroup]")) node.click();
}
/** What stands in the text box and beside it, unless somebody is typing there. @param {Ui} ui */
function fillInput({ at: { input }, model }) {
  for (const node of input.querySelectorAll("[data-field]")) {
    const value = String(model.get("settings")[node.dataset.field]);
    if (node !== document.activeElement || value !== node.dataset.sent)
      node.value = node.dataset.sent = value;
  }
}
/** @param {Ui} ui @param {any} event from the text box or beside it */
function typed(ui, { target: node, type, key }) {
  const { model } = ui;
  if (type === "keydown" && (key !== "Enter" || node.tagName === "SUMMARY")) return;
  clearTimeout(ui.typing);
  const { field } = node.dataset;
  const value = node.type === "number" ? Number(node.value) : node.value;
  const read = () => {
    node.dataset.sent = value;
    if (value !== model.get("settings")[field]) choose(ui, { [field]: value });
  };
  if (type === "input") ui.typing = setTimeout(read, 250);
  else read();
  const open = isStale(ui.data, model.get("settings")) || model.get("status").state === "stopped";
  if (type === "keydown" && open) model.send({ wanted: "again" });
}
/** @param {{model: any, el: any}} host */
function render({ model, el }) {
  const root = make("section.bv", { "aria-label": "Influence of words on words" });
  root.innerHTML = SKELETON;
  el.append(root);
  /** @type {Record<string, any>} */
  const at = {};
  for (const node of root.querySelectorAll("[data-at]")) at[node.dataset.at] = node;
  const ui = /** @type {Ui} */ (/** @type {unknown} */ ({ root, at, model, hover: {}, start: 0 }));
  const theme = () => {
    if (isDark() !== ui.dark) rebuild(ui);
  };
  const resized = () => {
    if (ui.width === root.clientWidth) return;
    ui.width = root.clientWidth;
    fitChips(ui);
    paint(ui);
  };
  const changed = () => refresh(ui);
  /** @type {Record<string, (message?: any) => void>} */
  const listeners = { "change:data": changed, "change:through": changed, "change:second": changed,
    "change:why": changed, "change:selected": changed, "change:settings": changed,
    "change:status": () => tell(ui), "msg:custom": message => {
      ui.saving = false;
      if (message.page) save(message.page);
      tell(ui);
    } };
  at.input.hidden = !model.get("live");
  at.second.open = innerWidth > 700 || model.get("settings").drawing !== "arcs";
  play(ui, false);
  rebuild(ui);
  root.addEventListener("click", (/** @type {any} */ event) => press(ui, event));
  root.addEventListener("keydown", (/** @type {any} */ event) => move(ui, event));
  for (const type of ["input", "change", "keydown"])
    at.input.addEventListener(type, (/** @type {any} */ event) => typed(ui, event));
  root.addEventListener("pointermove", (/** @type {any} */ event) => {
    if (event.pointerType !== "touch") point(ui, event.target);
  });
  root.addEventListener("focusin", (/** @type {any} */ { target }) => {
    if (target.matches(":focus-visible")) point(ui, target); // not by a tap, before its click
  });
  root.addEventListener("pointerleave", () => point(ui, root));
  root.addEventListener("focusout", (/** @type {any} */ { relatedTarget }) => {
    if (!root.contains(relatedTarget)) point(ui, root);
  });
  matchMedia("print").addEventListener("change", theme);
  for (const [event, run] of Object.entries(listeners)) model.on(event, run);
  const themes = new MutationObserver(theme);
  for (const node of [document.body, document.documentElement])
    themes.observe(node, { attributes: true });
  const sizes = new ResizeObserver(resized);
  sizes.observe(root);
  return () => {
    for (const [event, run] of Object.entries(listeners)) model.off(event, run);
    matchMedia("print").removeEventListener("change", theme);
    themes.disconnect();
    sizes.disconnect();
    clearTimeout(ui.patience);
    clearTimeout(ui.timer);
    clearTimeout(ui.typing);
  };
}
export { aligned, arcsOf, callOf, digits, fromHash, ranked, stacked, toHash };
export default { render };
