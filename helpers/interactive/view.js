// How much each word of a sentence moves each other word. Python sends numbers; selection and colours are made here.
// `model` is anywidget's, or in a page without a kernel the object in page.html. Matrices are [target][source].

const SKELETON = `<div class="bv-input"><label>Sentence <input data-field="text" autocomplete="off"></label>
  <label>Compare with <input data-field="second" autocomplete="off" placeholder="a second sentence"></label>
  <details><summary>Advanced</summary>
    <label>Method <select data-field="method"><option>exact<option>jvp<option>noise</select></label>
    <label>Samples (of jvp, noise) <input data-field="samples" type="number" min="2" max="1000"></label>
    <label>σ (of noise) <input data-field="sigma" type="number" step="any"></label></details></div>
<div class="bv-status"><span></span><progress></progress><button data-act="stop">stop</button><pre></pre></div>
<div class="bv-note"></div><div class="bv-sentence" role="toolbar" aria-label="The sentence: choose a word"></div>
<div class="bv-told" role="status" aria-live="polite"></div>
<div class="bv-switches" role="group" aria-label="What is shown">The chosen word
  <button data-choice="direction=sends">sends</button><button data-choice="direction=receives">receives</button> as
  <button data-choice="drawing=map">map</button><button data-choice="drawing=lines">lines</button> with
  <button data-choice="own">own position</button><button data-choice="special">special tokens</button>
  <button data-choice="log">logarithmic colours</button><button data-choice="words">word pieces joined</button>
  <button data-choice="difference">difference</button></div>
<div class="bv-hint"></div>
<div class="bv-body"><div class="bv-left">
  <div class="bv-map" role="grid" aria-label="A row per target, a column per source"></div><div class="bv-lines"></div>
  <div class="bv-ramp"></div><div class="bv-ticks"></div><div class="bv-legend"></div></div><div class="bv-right">
  <div class="bv-layers" role="toolbar" aria-label="Layers"></div><div class="bv-trend"></div><div class="bv-why"></div></div></div>
<div class="bv-actions"><button data-act="reset">reset</button><button data-act="page">save page</button>
  <button data-act="copy">copy settings</button>
  <input class="bv-call" readonly hidden aria-label="The Python call that brings this view back"></div>`;
const UNIT = "How far the target moves when the source is pushed a little, squared, summed over the source's numbers; " +
  "no unit. One scale for all layers. A loud source need not carry news: this is how sensitive a word is, not what " +
  "it learns.";
const RATIO = "The second one's influence relative to the first one's, for all layers.";
const VIRIDIS = ramp(["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"]);
const CHANGE = ramp(["2166ac", "67a9cf", "d1e5f0", "f7f7f7", "fddbc7", "ef8a62", "b2182b"]);

function ramp(stops) { // 256 colours, [red, green, blue], along the stops
  const part = (stop, c) => parseInt(stop.slice(2 * c, 2 * c + 2), 16), last = stops.length - 1;
  return Array.from({ length: 256 }, (_, i) => {
    const place = i / 255 * last, k = Math.min(Math.floor(place), last - 1);
    return [0, 1, 2].map(c => Math.round(part(stops[k], c) * (k + 1 - place) + part(stops[k + 1], c) * (place - k)));
  });
}

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "line", "text"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function save(page) {
  const href = URL.createObjectURL(new Blob([page], { type: "text/html" }));
  make("a", { href, download: "view.html" }).click();
  URL.revokeObjectURL(href);
}

const mark = (nodes, chosen, attribute) => [...nodes].forEach((node, i) => { // the chosen one is the tab stop of all
  node.tabIndex = i === chosen ? 0 : -1;
  node.setAttribute(attribute, i === chosen);
});
const floats = text => new Float32Array(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer);
const digits = value => Number.isNaN(value) ? "not measured"
  : value && Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
const nth = n => n + (["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] || "th");
const largest = (list, skip) => list.map((value, i) => [value, i]).filter(([value, i]) => value > 0 && i !== skip)
  .sort((a, b) => b[0] - a[0]);

function render({ model, el }) {
  let data, controls, groups, equal, panels, scale, comparing, cells, timer, reason, reasonOf; // set by what follows
  let hovered = null, head = null, coloured = null;
  const root = make("section", { class: "bv", "aria-label": "Influence of words on words" });
  root.innerHTML = SKELETON;
  el.append(root);
  const at = Object.fromEntries([...root.querySelectorAll("[class]")].map(node => [node.className.slice(3), node]));
  const send = changes => { Object.entries(changes).forEach(pair => model.set(...pair)); model.save_changes(); };
  const choose = changes => send({ settings: { ...model.get("settings"), ...changes } });
  const select = (layer, t, s) => send({ selected: [layer, groups[t][1][0], groups[s][1][0]] });
  const times = i => equal[groups[i][0]];
  const name = i => `'${groups[i][0]}'` + (times(i).length > 1 ? ` (${nth(times(i).indexOf(i) + 1)})` : "");
  const label = i => (/[\p{L}\p{N}]/u.test(groups[i][0]) ? groups[i][0] : `'${groups[i][0]}'`) + (times(i).length > 1
    ? String(times(i).indexOf(i) + 1).replace(/\d/g, digit => "₀₁₂₃₄₅₆₇₈₉"[digit]) : ""); // two equal words differ
  const place = position => Math.max(0, groups.findIndex(([, positions]) => positions.includes(position)));
  const column = (panel, s) => panel.values.map(row => row[s]);
  const three = (list, skip) => largest(list, skip).slice(0, 3).map(([v, i]) => `${name(i)} ${digits(v)}`).join(", ")
    || "nothing";
  const high = value => !controls.log ? value / scale.high // where on the scale, from 0 to 1
    : Math.log(Math.max(value, scale.low) / scale.low) / Math.log(scale.high / scale.low);
  const matrix = (flat, layer) => flat && groups.map(([, ts]) => groups.map(([, ss]) => {
    let sum = 0; // the squared norm of a block of several pieces is the sum of theirs
    for (const t of ts) for (const s of ss) sum += flat[(layer * data.tokens.length + t) * data.tokens.length + s];
    return sum;
  }));

  function now() { // the panel and the places of what is selected; `word` is the one whose column or row is looked at
    const [layer, target, source] = model.get("selected"), [t, s] = [place(target), place(source)];
    const panel = panels.find(({ id }) => id === layer) || { values: groups.map(() => groups.map(() => NaN)) };
    const sends = controls.direction === "sends";
    return { layer, t, s, panel, n: groups.length, sends, word: sends ? s : t };
  }
  function says(t, s, panel) { // one pair in words
    const value = panel.values[t][s], error = panel.errors?.[t][s], there = comparing && panel.other?.[t][s];
    const order = largest(panel.values[t], t), rank = order.findIndex(([, i]) => i === s) + 1;
    return `${name(s)} → ${name(t)}: ${digits(value)}` + (error > 0 ? ` ± ${digits(error)}` : "") +
      (there > 0 ? `, in the second ${digits(there)} (× ${digits(there / value)})` : "") +
      (t === s ? ", its own position" : rank ? `, ${nth(rank)} of ${order.length} sources` : "");
  }
  function shade(panel, t, s) { // [red, green, blue], or null where nothing is to be shown
    const value = panel.values[t][s], change = comparing && Math.log2(panel.other?.[t][s] / value) / scale.ratio;
    if (Number.isNaN(value) || Number.isNaN(change) || (t === s && !controls.own)) return null;
    const place = comparing ? 0.5 + change / 2 : high(value);
    return (comparing ? CHANGE : VIRIDIS)[Math.round(255 * Math.min(Math.max(place, 0), 1))];
  }
  function dye(node, rgb) { // and letters that stand out: black or white, by luminance
    const [r, g, b] = (rgb || [0, 0, 0]).map(part => (part / 255) ** 2.2);
    node.style.background = rgb ? `rgb(${rgb})` : "";
    node.style.color = !rgb ? "" : 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
  }

  function arrange() {
    const held = document.activeElement?.dataset.key;
    [data, controls] = [model.get("data"), model.get("settings")];
    hovered = head = coloured = reasonOf = null;
    const all = controls.words ? data.words : data.tokens.map((token, i) => [token, [i]]);
    groups = all.filter(([, positions]) => controls.special || !data.special.includes(positions[0]));
    if (!groups.length) groups = all;
    equal = Object.create(null);
    groups.forEach(([text], i) => (equal[text] ||= []).push(i));
    const [second, through] = ["second", "through"].map(key => model.get(key).of === data.of ? model.get(key) : {});
    const [values, errors, other] = [data.values, data.stderr, second.values].map(text => text && floats(text));
    panels = data.layers.map((text, id) => ({ id, name: text, values: matrix(values, id), errors: matrix(errors, id),
      other: matrix(other, id) }));
    if (through.values) panels.push({ id: "all", name: "through all layers", values: matrix(floats(through.values), 0),
      errors: through.stderr && matrix(floats(through.stderr), 0) });
    comparing = controls.difference && Boolean(other);
    scale = { least: Infinity, high: 0, ratio: 1 }; // one for all layers
    for (const panel of panels) panel.values.forEach((row, t) => row.forEach((value, s) => {
      if (!(value > 0) || (t === s && !controls.own)) return;
      const change = Math.abs(Math.log2(panel.other?.[t][s] / value)) || 0;
      scale = { least: Math.min(scale.least, value), high: Math.max(scale.high, value),
        ratio: Math.min(Math.max(scale.ratio, change), 5) };
    }));
    if (!scale.high) scale.least = scale.high = 1;
    scale.low = Math.max(scale.least, scale.high / 1e4) * (scale.least === scale.high ? 0.1 : 1);
    at.note.textContent = [!model.get("live") && data.title, second.note].filter(Boolean).join(" – ");
    at.sentence.replaceChildren(...groups.map((_, i) => make("button", { "data-word": i, "data-key": `word ${i}`,
      title: name(i), "aria-label": name(i) }, label(i))));
    for (const draw of [drawMap, drawLayers, drawLegend, paint]) draw();
    if (held) root.querySelector(`[data-key="${held}"]`)?.focus();
  }
  function drawMap() {
    const n = groups.length, row = (...children) => make("div", { class: "bv-row", role: "row" }, ...children);
    const tick = (i, area) => make("div", { class: "bv-tick", style: `grid-area: ${area}`, "data-word": i }, label(i));
    at.map.style.gridTemplateColumns = `max-content repeat(${n}, minmax(12px, 30px))`;
    cells = Array.from({ length: n * n }, (_, i) => make("div", { class: "bv-cell", role: "gridcell", "data-cell": i,
      "data-key": `cell ${i}`, style: `grid-area: ${Math.floor(i / n) + 2} / ${i % n + 2}` }));
    at.map.replaceChildren(row(...groups.map((_, s) => tick(s, `1 / ${s + 2}`))),
      ...groups.map((_, t) => row(tick(t, `${t + 2} / 1`), ...cells.slice(t * n, t * n + n))),
      make("div", { class: "bv-band" }));
  }
  function drawLayers() {
    const n = groups.length, ask = model.get("live") && panels.length === data.layers.length;
    const later = ask ? [{ id: "all", name: "through all layers (compute)" }] : [];
    at.layers.replaceChildren(...[...panels, ...later].map(panel => {
      const canvas = make("canvas", { width: n, height: n, "aria-hidden": "true" }), pixels = new ImageData(n, n);
      for (let i = 0; panel.values && i < n * n; i++)
        pixels.data.set([...shade(panel, Math.floor(i / n), i % n) || [128, 128, 128], 255], 4 * i);
      canvas.getContext("2d").putImageData(pixels, 0, 0);
      return make("button", { "data-layer": panel.id, "data-key": `layer ${panel.id}` }, canvas, panel.name);
    }));
  }
  function drawLegend() {
    const { low, least, high: top, ratio } = scale, stops = (comparing ? CHANGE : VIRIDIS).filter((_, i) => !(i % 15));
    const value = x => comparing ? 2 ** (ratio * (2 * x - 1)) : controls.log ? low * (top / low) ** x : top * x;
    const sign = x => comparing ? "× " : controls.log && !x && least < low ? "≤ " : "";
    at.ramp.style.background = `linear-gradient(to right, ${stops.map(rgb => `rgb(${rgb})`)})`;
    at.ticks.replaceChildren(...[0, 0.25, 0.5, 0.75, 1].map(x => make("span", {}, sign(x) + digits(value(x)))));
    at.legend.textContent = comparing ? RATIO : UNIT;
  }

  function paint() {
    const { layer, t, s, panel, n, word } = now();
    for (const node of at.switches.children) {
      const [key, value] = node.dataset.choice.split("=");
      node.setAttribute("aria-pressed", value ? controls[key] === value : controls[key]);
      node.hidden = (key === "difference" && !panels[0].other) || (key === "special" && !data.special.length)
        || (key === "words" && data.words.length === data.tokens.length);
    }
    mark(at.layers.children, layer === "all" ? data.layers.length : layer, "aria-pressed");
    mark(cells, t * n + s, "aria-selected");
    [at.map.hidden, at.lines.hidden] = [controls.drawing !== "map", controls.drawing === "map"];
    at.told.textContent = `${panel.name || "through all layers"}: ${name(word)} sends most to ` +
      `${three(column(panel, word), word)}; it receives most from ${three(panel.values[word], word)}. Selected: ` +
      `${says(t, s, panel)}.`;
    at.call.hidden = true;
    drawWhy(layer, t, s);
    drawTrend(panel, t, s);
    paintColours();
    root.dataset.state = JSON.stringify({ selected: model.get("selected"), ...controls, of: data.of });
    tell();
  }
  function paintColours() { // also follows the pointer
    const { t, s, word, panel, n, sends } = now(), [row, line, whole] = hovered || [t, s];
    const shown = head === null || !reason ? panel : { values: matrix(reason.heads, head) };
    const focus = hovered ? (sends ? line : row) : word, list = sends ? column(shown, focus) : shown.values[focus];
    if (coloured !== shown) cells.forEach((cell, i) => {
      const [to, from] = [Math.floor(i / n), i % n];
      dye(cell, shade(shown, to, from));
      cell.setAttribute("aria-label", `${name(from)} → ${name(to)}: ${digits(shown.values[to][from])}`);
    });
    if (coloured !== shown && !at.lines.hidden) drawLines(shown);
    coloured = shown;
    for (const { dataset: { side }, classList } of at.lines.querySelectorAll("[data-side]"))
      classList.toggle("bv-mine", side.includes(controls.direction + focus + ";"));
    mark(at.sentence.children, word, "aria-pressed");
    [...at.sentence.children].forEach((node, i) => {
      dye(node, i === focus ? null : shade(shown, sends ? i : focus, sends ? focus : i));
      node.classList.toggle("bv-focus", i === focus);
    });
    at.map.lastChild.style.gridArea = sends ? `1 / ${focus + 2} / ${n + 2} / ${focus + 3}`
      : `${focus + 2} / 1 / ${focus + 3} / ${n + 2}`;
    at.hint.textContent = head !== null ? `Head ${head} alone: ${says(t, s, shown)}`
      : !hovered ? `Point at a word to see what it ${controls.direction}; click to keep it.`
      : whole ? `${name(focus)} ${sends ? "sends most to" : "receives most from"} ${three(list, focus)}.`
      : says(row, line, shown);
  }
  function drawLines(panel) { // left sends, right receives; wide where the colour scale is high
    const n = groups.length, step = n > 32 ? 14 : 22, y = i => step * (i + 0.7), drawn = [];
    const side = (x, anchor, title) => [make("text", { x, y: 0, "text-anchor": anchor }, title), ...groups.map((_, i) =>
      make("text", { x, y: y(i) + 4, "text-anchor": anchor, "data-word": i, "data-side": title + i + ";" }, label(i)))];
    panel.values.forEach((row, t) => row.forEach((value, s) => {
      if (shade(panel, t, s)) drawn.push(make("line", { "data-cell": t * n + s, "data-side": `sends${s};receives${t};`,
        x1: 130, y1: y(s), x2: 290, y2: y(t), "stroke-width": 0.3 + 7 * high(value) ** 2 }));
    }));
    at.lines.replaceChildren(make("svg", { viewBox: `0 -14 420 ${step * n + 20}`, class: n > 24 ? "bv-many" : "",
      role: "img", "aria-label": "Lines from the words that send, left, to those that receive, right" }, ...drawn,
    ...side(122, "end", "sends"), ...side(298, "start", "receives")));
  }
  function drawTrend(panel, t, s) { // the pair over the layers
    const spots = data.layers.map((_, l) => [l, panels[l].values[t][s]]).filter(([, v]) => v > 0);
    const low = Math.min(...spots.map(([, v]) => v)), top = Math.max(...spots.map(([, v]) => v));
    const x = l => 6 + 188 * l / (data.layers.length - 1 || 1);
    const y = v => 40 - 36 * (top > low ? Math.log(v / low) / Math.log(top / low) : 0.5);
    const dot = ([l, v]) => `<circle cx="${x(l)}" cy="${y(v)}" r="${panel.id === l ? 4 : 2}"/>`;
    at.trend.innerHTML = !spots.length ? "" : `<svg viewBox="0 0 200 44" aria-hidden="true"><polyline points="${
      spots.map(([l, v]) => [x(l), y(v)])}"/>${spots.map(dot).join("")}</svg>`;
    if (spots.length) at.trend.prepend(`${name(s)} → ${name(t)} in each layer, logarithmic: ` +
      spots.map(([, v]) => digits(v)).join(", "));
  }
  function drawWhy(layer, t, s) { // bars for the paths and for the heads of the pair
    const why = model.get("why"), part = why.of === data.of ? why.layers[layer] : null;
    if (part !== reasonOf) reason = part && { heads: part.heads && floats(part.heads),
      paths: Object.entries(part.paths || {}).map(([path, text]) => [path, matrix(floats(text), 0)]) };
    reasonOf = part;
    const bars = (title, entries, more = () => ({})) => !entries.length ? [] : [title, ...entries.map(([text, v], i) => {
      const width = 100 * Math.abs(v) / Math.max(...entries.map(entry => Math.abs(entry[1])), 1e-30);
      const bar = make("i", {}, make("b", { class: v < 0 ? "bv-minus" : "", style: `width: ${width}%` }));
      return make("div", { class: "bv-bar", "data-value": v, role: "img", "aria-label": `${text}: ${digits(v)}`,
        ...more(i) }, text, bar, digits(v));
    })];
    const paths = (reason?.paths || []).map(([path, values]) => [path, values[t][s]])
      .filter(([path]) => t === s || !["residual", "query"].includes(path)); // those two exist on the diagonal alone
    const heads = Array.from({ length: part?.count || 0 }, (_, h) => [`head ${h}`, matrix(reason.heads, h)[t][s]]);
    at.why.replaceChildren(...bars(`Why: the paths from ${name(s)} to ${name(t)}, which add up to it`, paths),
      ...bars("The heads, each alone; they overlap and do not add up. Point at one for its map.", heads,
        h => ({ tabindex: h ? -1 : 0, "data-head": h, "data-key": `head ${h}` })),
      part || !model.get("live") ? "" : layer === "all" ? "Choose one layer for its paths and heads." : "Computing …");
  }
  function tell() { // how far a computation is, or what is wrong with the input
    const { state, text, done, trace } = model.get("status"), busy = state === "busy" || state === "more";
    root.dataset.ready = state; // the style sheet dims what is no longer true
    at.status.setAttribute("role", state === "error" ? "alert" : "none");
    const [told, bar, stop, pre] = at.status.children; // changed, not replaced: a click on stop must find it
    bar.hidden = stop.hidden = !busy;
    [told.textContent, pre.textContent, bar.value] = [text || "", trace || "", done || 0];
  }

  function lock(i) { // a word, and with it the pair of it and the word at the strong end
    const { panel, layer, sends } = now(), [[, best] = [0, i]] = largest(sends ? column(panel, i) : panel.values[i], i);
    select(layer, ...(sends ? [best, i] : [i, best]));
  }
  function point(node) {
    const { cell, word, head: bar } = node.closest("[data-cell], [data-word], [data-head]")?.dataset || {};
    const { t, s, n, sends } = now(), next = cell ? [Math.floor(cell / n), cell % n]
      : !word ? null : sends ? [t, Number(word), true] : [Number(word), s, true];
    if (String([next, bar]) === String([hovered, head ?? undefined])) return;
    [hovered, head] = [next, bar ? Number(bar) : null];
    paintColours();
  }
  function press(event) {
    const node = event.target.closest("button, [data-cell], [data-word]"), { n, layer, t, s, word } = now();
    const { cell, word: chosen, layer: wanted, choice = "", act } = node?.dataset || {}, [key, value] = choice.split("=");
    if (cell) select(layer, Math.floor(cell / n), cell % n);
    if (chosen) lock(Number(chosen));
    if (wanted) select(wanted === "all" ? wanted : Number(wanted), t, s);
    if (choice) choose({ [key]: value || !controls[key] });
    if (key === "direction") lock(word);
    if (act === "stop" || act === "page") model.send({ wanted: act });
    if (act === "reset") send(model.get("initial"));
    if (act === "copy") copy();
  }
  function move(event) { // the arrow keys, inside what is one tab stop
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // or a notebook takes "dd" as its own: delete the cell
    const [kind] = event.target.dataset.key?.split(" ") || [], across = kind === "cell" ? groups.length : 1;
    const items = [...root.querySelectorAll(`[data-key^="${kind} "]`)];
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (kind === "cell" && event.key === "Enter") event.target.click();
    if (!kind || !step) return;
    event.preventDefault(); // the page stays where it is
    items[items.indexOf(event.target) + step]?.focus();
  }
  function copy() {
    const [layer, target, source] = model.get("selected"), python = { true: "True", false: "False" };
    const options = Object.entries({ ...controls, layer, target, source });
    at.call.value = `${data.call}, ${options.map(([k, v]) => `${k}=${python[v] || JSON.stringify(v)}`).join(", ")})`;
    at.call.hidden = false;
    at.call.select();
    navigator.clipboard?.writeText(at.call.value).catch(() => {}); // where that is not allowed it is there, selected
  }
  const read = ({ target: node }) => {
    clearTimeout(timer);
    const value = node.type === "number" ? Number(node.value) : node.value;
    node.dataset.sent = value;
    if (value !== model.get("settings")[node.dataset.field]) choose({ [node.dataset.field]: value });
  };
  const fill = () => at.input.querySelectorAll("[data-field]").forEach(node => { // what Python set, into the boxes
    const value = String(model.get("settings")[node.dataset.field]);
    if (node !== document.activeElement || value !== node.dataset.sent) node.value = node.dataset.sent = value;
  });
  const listeners = { "change:data": arrange, "change:through": arrange, "change:second": arrange, "change:why": paint,
    "change:selected": paint, "change:status": tell, "change:settings": () => { fill(); arrange(); },
    "msg:custom": message => { if (message.page) save(message.page); } };
  at.input.hidden = !model.get("live");
  at.input.addEventListener("change", read);
  at.input.addEventListener("input", event => { clearTimeout(timer); timer = setTimeout(read, 250, event); });
  for (const type of ["pointerover", "focusin"]) root.addEventListener(type, event => point(event.target));
  for (const type of ["pointerleave", "focusout"]) root.addEventListener(type, () => point(root));
  root.addEventListener("click", press);
  root.addEventListener("keydown", move);
  for (const [event, act] of Object.entries(listeners)) model.on(event, act);
  listeners["change:settings"]();
  return () => { for (const [event, act] of Object.entries(listeners)) model.off(event, act); };
}

export default { render };
