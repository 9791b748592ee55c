// The page: candidates in a table that draws only the rows in sight, filters, verdicts, and the state in the address.
import { icrsToGalactic, openSky } from "/skymap.js";

const $ = id => document.getElementById(id);
const get = async route => { const answer = await fetch(route); if (!answer.ok) throw new Error(`${route}: ${answer.status}`); return answer.json(); };
// A table as the server packs it: a head in JSON, then each column's values from a multiple of 8 bytes on; texts as numbers.
async function getTable(route) {
  const answer = await fetch(route);
  if (!answer.ok) throw new Error(`${route}: ${answer.status}`);
  const buffer = await answer.arrayBuffer(), length = new DataView(buffer).getUint32(0, true), table = {};
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  for (const { name, type, words } of head.columns) {
    at = 8 * Math.ceil(at / 8);
    const values = new { f4: Float32Array, f8: Float64Array, u4: Uint32Array }[type](buffer, at, head.n_rows);
    table[name] = words ? Array.from(values, number => words[number]) : values;
    at += values.byteLength;
  }
  return table;
}
const ROW = 30, FLY_FOV = 2;
// Column, head, decimals, factor, unit, and width in the grid; those of which nothing is known are left out.
const ALL_COLUMNS = [["name", "candidate", , , , "minmax(10.7rem,1.1fr)"], ["p", "<i>p</i>", 2, , , "2.9rem"], ["purity", "purity", 2, , , "3.5rem"],
  ["snr", "S/N", 1, , , "3.1rem"], ["lat_deg", "<i>b</i>", 1, , , "3.4rem"], ["y5r500_arcmin2", "<i>Y</i><sub>5R500</sub>", 2, 1e3, "10⁻³ arcmin²", "4.2rem"],
  ["kind", "kind", , , , "4.8rem"], ["flags", "flags", , , , "minmax(4.2rem,.7fr)"], ["match_name", "match", , , , "minmax(4.8rem,1.1fr)"], ["verdict", "verdict", , , , "4.6rem"]];
const known = column => column === "verdict" || table[column]?.some(value => value !== "" && !Number.isNaN(value));
let COLUMNS;
const CLUSTER_NAMES = { "planck_z": "Planck_z", "planck_no-z": "Planck_no-z", mcxcwp: "MCXCwP", rm50: "RM50", rm30: "RM30" };
const CLUSTER_COLOURS = { "planck_z": "#56b4e9", "planck_no-z": "#e69f00", mcxcwp: "#00c08a", rm50: "#ff7f3f", rm30: "#d98ac0" };
const FILTERS = ["search", "p_min", "purity_min", "snr_min", "lat_min", "matched", "kind", "judged"];
const VIEW = ["base", "overlay", "opacity", "frame", "projection", "stretch", "low", "high"];

let run, table, n = 0, mask, order = [], sky, selected = -1, sort = { column: "p", down: true };
let knownShown = new Set(); // groups of known clusters on the map
const verdicts = new Map();

async function start() {
  let said;
  [run, table, said] = await Promise.all([get("/api/run.json"), getTable("/api/candidates.bin"), get("/api/verdicts.json")]);
  n = table.name.length; mask = new Uint8Array(n);
  said.forEach(one => verdicts.set(one.name, one));
  document.title = `${run.title} · SZeek explorer`;
  $("title").textContent = run.title;
  $("report").hidden = !run.report;
  for (const layer of run.layers) for (const id of ["base", "overlay"]) $(id).add(new Option(layer.title, layer.name));
  [...new Set(table.kind ?? [])].filter(Boolean).sort().forEach(kind => $("kind").add(new Option(kind, kind)));
  run.verdicts.forEach(word => $("judged").add(new Option(word, word)));
  COLUMNS = ALL_COLUMNS.filter(([column]) => ["name", "p", "lat_deg"].includes(column) || known(column));
  for (const [column, id] of [["purity", "purity_min"], ["snr", "snr_min"], ["kind", "kind"], ["match_name", "matched"]])
    if (!known(column)) { $(id).disabled = true; $(id).title = "Not in this catalogue"; }
  drawHead(); makeJudge(); readState(); applyFilters();
  performance.mark("table");
  await painted(); // the table is on the screen while the map starts
  sky = await openSky($("sky"), run, { pick: row => select(row, { scroll: true }), moved: saveSoon, hover: tellPlace });
  sky.setCandidates(table); sky.show(mask, order.length); summarise();
  if (sky.kind === "still") {
    $("readout").textContent = `${sky.reason}: the map is a static picture; the table is complete.`;
    for (const id of VIEW) { $(id).disabled = true; $(id).title = "Not available without WebGL2"; }
    $("base").value = run.layers[0].name; // what the picture shows
  }
  VIEW.forEach(applyView);
  const asked = state();
  if (asked.has("l")) sky.goto(Number(asked.get("l")), Number(asked.get("b")), Number(asked.get("fov")) || undefined);
  if (selected >= 0) select(selected, { scroll: true, fly: !asked.has("l") });
  tellUnknown();
  listen();
  window.explorer = { sky, table, get order() { return order; }, get selected() { return selected; }, applyFilters, select };
  performance.mark("sky");
  makeClusterSwitches(await get("/api/clusters.json"));
  document.body.dataset.ready = sky.kind;
}

const painted = () => new Promise(done => { requestAnimationFrame(() => setTimeout(done)); setTimeout(done, 100); }); // a hidden tab has no frames
const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}°`;
const galactic = (lon, lat) => `l ${lon.toFixed(3)}°  b ${signed(lat, 3)}`, equatorial = (ra, dec) => `RA ${ra.toFixed(4)}°  Dec ${signed(dec, 4)}`;
// The place under the pointer (RA, Dec), in the frame that is shown.
function tellPlace(at) { $("readout").textContent = !at ? "" : $("frame").value === "ICRS" ? equatorial(...at) : galactic(...icrsToGalactic(...at)); }

// ---- state in the address -------------------------------------------------------------------------------------------
const state = () => new URLSearchParams(location.hash.slice(1));
function readState() {
  const asked = state();
  for (const id of [...FILTERS, ...VIEW]) $(id).value = asked.get(id) ?? usual(id); // what an address leaves out is as usual
  const column = COLUMNS.some(([name]) => name === asked.get("sort")) ? asked.get("sort") : "p";
  sort = { column, down: asked.get("down") !== "0" };
  markSort();
  selected = asked.has("at") ? table.name.indexOf(asked.get("at")) : -1;
  knownShown = new Set(asked.getAll("known"));
}
const usual = id => $(id).options ? $(id).options[0]?.value ?? "" : $(id).defaultValue;
// A link of another run's report leads here too: say that the candidate is not of this one.
function tellUnknown() { const name = state().get("at"); if (name && selected < 0) $("summary").textContent = `This run has no candidate ${name}`; }
let saving = 0;
function saveSoon() { clearTimeout(saving); saving = setTimeout(saveState, 200); }
function saveState() {
  if (!sky) return;
  const kept = new URLSearchParams();
  for (const id of FILTERS) if ($(id).value) kept.set(id, $(id).value);
  for (const id of VIEW) { if ($(id).value !== usual(id)) kept.set(id, $(id).value); }
  for (const name of knownShown) kept.append("known", name);
  if (sort.column !== "p" || !sort.down) { kept.set("sort", sort.column); kept.set("down", sort.down ? "1" : "0"); }
  const { lon, lat, fov } = sky.where();
  kept.set("l", lon.toFixed(4)); kept.set("b", lat.toFixed(4)); kept.set("fov", fov.toPrecision(5));
  if (selected >= 0) kept.set("at", table.name[selected]);
  history.replaceState(null, "", `#${kept}`);
}

// ---- filter and sort ------------------------------------------------------------------------------------------------
// Galactic longitude and latitude of what is typed, null if it is no position: two numbers in degrees are in the frame
// that is shown unless they say l b or RA Dec; G112.5+41.8 is Galactic, hours with minutes and seconds are equatorial.
function parsePosition(text) {
  text = text.replace(/[°,]/g, " ").replace(/−/g, "-").trim();
  const hours = text.match(/^(\d{1,2})[h:\s]+(\d{1,2})[m:\s]+(\d+(?:\.\d*)?)s?\s*([+-])(\d{1,2})[d:\s]+(\d{1,2})[m':\s]+(\d+(?:\.\d*)?)[s"]?$/i);
  const sum = parts => Number(parts[0]) + parts[1] / 60 + parts[2] / 3600;
  if (hours) return within(15 * sum(hours.slice(1, 4)), (hours[4] === "-" ? -1 : 1) * sum(hours.slice(5)), true);
  const found = text.match(/^(l|ra)?[\s=]*([+-]?\d+(?:\.\d*)?)\s+(?:b|dec)?[\s=]*([+-]?\d+(?:\.\d*)?)$/i), name = text.match(/^G?(\d+(?:\.\d+)?)([+-]\d+(?:\.\d+)?)$/i);
  if (found) return within(found[2], found[3], found[1] ? found[1].toLowerCase() === "ra" : $("frame").value === "ICRS");
  return name && within(name[1], name[2], false);
}
function within(lon, lat, isEquatorial) {
  if (Math.abs(lat) > 90) return null;
  return isEquatorial ? icrsToGalactic(Number(lon), Number(lat)) : [Number(lon) % 360, Number(lat)];
}
function applyFilters() {
  const text = $("search").value.trim().toLowerCase(), place = parsePosition(text);
  const least = [["p", "p_min"], ["purity", "purity_min"], ["snr", "snr_min"]]
    .filter(([, id]) => $(id).value !== "" && !$(id).disabled).map(([column, id]) => [table[column], Number($(id).value)]);
  const height = Number($("lat_min").value) || 0, matched = $("matched").value, kind = $("kind").value, judged = $("judged").value;
  for (let i = 0; i < n; i++) {
    let keep = Math.abs(table.lat_deg[i]) >= height;
    for (const [values, limit] of least) keep &&= values[i] >= limit; // what is unknown, NaN, does not pass
    if (keep && text && !place) keep = lowerNames()[i].includes(text);
    if (keep && matched) keep = Boolean(table.match_name?.[i]) === (matched === "yes");
    if (keep && kind) keep = table.kind[i] === kind;
    if (keep && judged) keep = (verdicts.get(table.name[i])?.verdict || "none") === judged;
    mask[i] = keep ? 1 : 0;
  }
  order = (place ? nearestFirst(place) : sortedRows()).filter(i => mask[i]);
  summarise();
  $("grid").setAttribute("aria-rowcount", order.length + 1);
  linkDossiers(Boolean(place));
  sky?.show(mask, order.length);
  drawRows(true);
}
// The set of dossiers is chosen by the same filters, on the server; a position only sorts.
function linkDossiers(place) {
  const asked = new URLSearchParams(FILTERS.filter(id => $(id).value && !$(id).disabled && !(place && id === "search")).map(id => [id, $(id).value]));
  $("dossiers").href = `/dossiers.zip?${asked}`;
  $("dossiers").hidden = !order.length;
  $("dossiers").textContent = `Dossiers of ${order.length === n ? "all" : "these"} ${order.length} (zip)`;
}
function summarise() {
  const count = order.length === n ? `${n} candidates` : `${order.length} of ${n} candidates`;
  $("summary").textContent = order.length > sky?.most ? `${count}; the map marks the ${sky.most} of highest p in view` : count;
}
const lowerNames = () => table.lower ??= table.name.map((name, i) => `${name} ${table.match_name?.[i] ?? ""}`.toLowerCase());
const allRows = () => Array.from({ length: n }, (_, i) => i);
function nearestFirst(place) {
  const [l, b] = place.map(v => v * Math.PI / 180);
  const nearness = i => { const bi = table.lat_deg[i] * Math.PI / 180; return Math.sin(b) * Math.sin(bi) + Math.cos(b) * Math.cos(bi) * Math.cos(table.lon_deg[i] * Math.PI / 180 - l); };
  const near = Float64Array.from(table.lat_deg, (_, i) => nearness(i));
  return allRows().sort((i, j) => near[j] - near[i]);
}
// All rows as the table is sorted, kept until it is sorted otherwise: filters then leave some of them out.
let sorted = {};
function sortedRows() {
  const { column, down } = sort, turn = down ? -1 : 1;
  if (sorted.column === column && sorted.down === down && column !== "verdict") return sorted.rows;
  const values = column === "verdict" ? table.name.map(name => verdicts.get(name)?.verdict ?? "") : table[column] ?? [];
  const missing = i => values[i] === "" || Number.isNaN(values[i]); // last, whichever way
  const difference = typeof values[0] === "string" ? (a, b) => (a < b ? -1 : a > b ? 1 : 0) : (a, b) => a - b;
  const rows = allRows().sort((i, j) => missing(i) - missing(j) || turn * difference(values[i], values[j]) || i - j);
  sorted = { column, down, rows };
  return rows;
}

// ---- table ----------------------------------------------------------------------------------------------------------
function drawHead() {
  document.documentElement.style.setProperty("--columns", COLUMNS.map(column => column[5]).join(" "));
  COLUMNS.forEach(([column, head, digits, , unit], index) => {
    const cell = Object.assign(document.createElement("span"), { className: digits === undefined ? "" : "n" });
    cell.setAttribute("role", "columnheader");
    cell.setAttribute("aria-colindex", index + 1);
    const button = Object.assign(document.createElement("button"), { type: "button", innerHTML: head, title: unit ? `in ${unit}` : "" });
    button.addEventListener("click", () => {
      sort = { column, down: sort.column === column ? !sort.down : digits !== undefined };
      markSort(); applyFilters(); saveSoon();
    });
    cell.append(button); $("head").append(cell);
  });
  markSort();
}
function markSort() {
  [...$("head").children].forEach((cell, index) => {
    if (COLUMNS[index][0] === sort.column) cell.setAttribute("aria-sort", sort.down ? "descending" : "ascending"); else cell.removeAttribute("aria-sort");
  });
}
const drawn = new Map(); // place in the order -> row element
function drawRows(afresh) {
  const grid = $("grid"), body = $("body");
  body.style.height = `${order.length * ROW}px`;
  const first = Math.max(0, Math.floor(grid.scrollTop / ROW) - 8), last = Math.min(order.length, Math.ceil((grid.scrollTop + grid.clientHeight) / ROW) + 8);
  for (const [at, element] of drawn) if (afresh || at < first || at >= last) { element.remove(); drawn.delete(at); }
  for (let at = first; at < last; at++) if (!drawn.has(at)) { const element = makeRow(at); drawn.set(at, element); body.append(element); }
}
function makeRow(at) {
  const i = order[at], element = document.createElement("div");
  element.className = "row"; element.id = `row-${i}`; element.style.top = `${at * ROW}px`;
  element.setAttribute("role", "row"); element.setAttribute("aria-rowindex", at + 2); element.setAttribute("aria-selected", i === selected);
  COLUMNS.forEach(([column, , digits, factor = 1], index) => {
    const cell = document.createElement("span");
    cell.setAttribute("role", "gridcell"); cell.setAttribute("aria-colindex", index + 1);
    const value = column === "verdict" ? verdicts.get(table.name[i])?.verdict ?? "" : table[column]?.[i];
    if (digits !== undefined) { cell.className = "n"; cell.textContent = value === undefined || Number.isNaN(value) ? "" : (value * factor).toFixed(digits).replace("-", "−"); }
    else { cell.textContent = value ?? ""; if (column === "flags" && table.not_checked[i]) cell.title = `not checked: ${table.not_checked[i]}`; if (column === "verdict" && value) cell.className = `v-${value.split(" ")[0]}`; }
    element.append(cell);
  });
  element.addEventListener("click", () => { select(i, { fly: true }); $("grid").focus({ preventScroll: true }); });
  return element;
}

// ---- selection and verdicts -----------------------------------------------------------------------------------------
let showing = 0;
const dossier = name => `/dossier/${encodeURIComponent(name)}`;
function reveal() {
  const at = order.indexOf(selected), grid = $("grid"), room = grid.clientHeight - $("head").offsetHeight;
  if (at < 0) return;
  if (at * ROW < grid.scrollTop) grid.scrollTop = at * ROW;
  else if ((at + 1) * ROW > grid.scrollTop + room) grid.scrollTop = (at + 1) * ROW - room;
  drawRows(false);
}
function select(i, { scroll = false, fly = false } = {}) {
  selected = i;
  for (const element of drawn.values()) element.setAttribute("aria-selected", element.id === `row-${i}`);
  if (i < 0) { $("detail").hidden = true; $("grid").removeAttribute("aria-activedescendant"); sky?.select(table, -1); return; }
  $("detail").hidden = false;
  if (scroll) reveal();
  $("grid").setAttribute("aria-activedescendant", `row-${i}`);
  sky?.select(table, i);
  if (fly) sky?.goto(table.lon_deg[i], table.lat_deg[i], Math.min(FLY_FOV, sky.where().fov));
  const name = table.name[i], said = verdicts.get(name);
  $("name").textContent = name;
  $("place").textContent = `${galactic(table.lon_deg[i], table.lat_deg[i])} · ${equatorial(table.ra_deg[i], table.dec_deg[i])}`;
  $("note").value = said?.note ?? "";
  $("dossier").href = dossier(name);
  $("sheet").alt = `Cut-outs, spectrum and profile of ${name}`;
  clearTimeout(showing);
  $("sheet").setAttribute("aria-busy", "true"); // what is there still shows another candidate
  showing = setTimeout(() => { $("sheet").src = `${dossier(name)}.png`; }, 150);
  markJudge(); saveSoon();
}
function makeJudge() {
  for (const word of run.verdicts) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: word });
    button.addEventListener("click", () => judge(verdicts.get(table.name[selected])?.verdict === word ? "" : word));
    $("judge").append(button);
  }
}
function markJudge() {
  const verdict = verdicts.get(table.name[selected])?.verdict ?? "";
  for (const button of $("judge").children) button.setAttribute("aria-pressed", button.textContent === verdict);
}
async function judge(verdict, note = verdicts.get(table.name[selected])?.note ?? "") {
  if (selected < 0) return;
  const i = selected, name = table.name[i];
  const answer = await fetch("/api/verdicts.json", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name, verdict, note }) });
  if (!answer.ok) { $("summary").textContent = `Not saved: ${await answer.text()}`; return; }
  const said = await answer.json();
  if (said.verdict || said.note) verdicts.set(name, said); else verdicts.delete(name);
  $("said").textContent = `${name}: ${said.verdict || "not judged"}${said.note ? ", with a note" : ""}`;
  markJudge();
  const at = order.indexOf(i), old = drawn.get(at);
  if (old) { const fresh = makeRow(at); drawn.set(at, fresh); old.replaceWith(fresh); }
}
function step(by) {
  const at = order.indexOf(selected), next = Math.min(order.length - 1, Math.max(0, (at < 0 ? (by > 0 ? -1 : 0) : at) + by));
  if (order.length) select(order[next], { scroll: true });
}

// ---- controls -------------------------------------------------------------------------------------------------------
function applyView(id) {
  const value = $(id).value;
  if (id === "base") { if (value) { sky.setBase(value); showScale(value); ["stretch", "low"].forEach(applyView); } }
  else if (id === "low" || id === "high") { const layer = layerOf($("base").value); if (layer) { sky.setLimits(...limitsOf(layer)); showTicks(layer); } }
  else if (id === "overlay" || id === "opacity") sky.setOverlay($("overlay").value, $("opacity").value);
  else if (id === "frame") { sky.setFrame(value); tellSearch(value === "ICRS"); } else if (id === "projection") sky.setProjection(value);
  else if (id === "stretch") { sky.setStretch(value); showTicks(layerOf($("base").value)); }
}
function tellSearch(isEquatorial) {
  $("search").placeholder = isEquatorial ? "name  or  194.95 27.98 (RA Dec)" : "name  or  112.5 41.8 (l b)";
  if (sky && parsePosition($("search").value)) applyFilters();
}
const layerOf = name => run.layers.find(layer => layer.name === name);
// What the colours mean: the limits of the map's layer, at the ends of its colours, where others can be typed.
function showScale(name) {
  const { low, high, unit, swatch } = layerOf(name);
  const print = value => String(Number(value.toPrecision(3))).replace("-", "−");
  const units = { "1e-6": "× 10⁻⁶", uK_CMB: "µK", "MJy/sr": "MJy/sr" };
  $("scale").hidden = false;
  $("low").placeholder = print(low); $("high").placeholder = print(high);
  $("unit").textContent = units[unit] ?? unit;
  $("swatch").style.background = `linear-gradient(to right, ${swatch.join(", ")})`;
}
const limitsOf = layer => ["low", "high"].map(end => $(end).value === "" ? layer[end] : Number($(end).value));
// Aladin's stretches: place on the colours, 0 to 1, of a value between the limits.
const STRETCHES = { linear: x => x, sqrt: Math.sqrt, log: x => Math.log(1000 * x + 1) / Math.log(1001), asinh: x => Math.asinh(10 * x) / Math.asinh(10) };
function showTicks(layer) {
  const [low, high] = limitsOf(layer), place = STRETCHES[$("stretch").value || layer.stretch];
  const inside = layer.ticks.map(value => [value, place((value - low) / (high - low))]).filter(([, x]) => x > 0.02 && x < 0.98);
  $("ticks").replaceChildren(...inside.map(([value, x]) => {
    const tick = Object.assign(document.createElement("span"), { textContent: value });
    tick.style.left = `${100 * x}%`;
    return tick;
  }));
  $("scale").classList.toggle("ticked", inside.length > 0);
}
function makeClusterSwitches(groups) {
  $("layers").hidden = !Object.keys(groups).length;
  for (const [name, group] of Object.entries(groups)) {
    const label = document.createElement("label"), box = Object.assign(document.createElement("input"), { type: "checkbox" });
    label.append(box, ` ${CLUSTER_NAMES[name] ?? name} (${group.name.length})`); $("layers").append(label);
    const show = () => sky.setClusters(name, group, CLUSTER_COLOURS[name] ?? "#cccccc", box.checked);
    box.value = name;
    box.addEventListener("change", () => { if (box.checked) knownShown.add(name); else knownShown.delete(name); show(); saveSoon(); });
    box.follow = () => { if (box.checked !== knownShown.has(name)) { box.checked = knownShown.has(name); show(); } };
    box.follow();
  }
}
function listen() {
  let waiting = 0;
  $("filters").addEventListener("input", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(() => { applyFilters(); saveSoon(); }); });
  $("filters").addEventListener("reset", () => setTimeout(() => { applyFilters(); saveSoon(); }));
  $("filters").addEventListener("submit", event => {
    event.preventDefault();
    const place = parsePosition($("search").value);
    if (place) sky.goto(...place, 5);
    if (order.length) select(order[0], { scroll: true, fly: !place });
    $("grid").focus();
  });
  VIEW.forEach(id => $(id).addEventListener("input", () => {
    if (id === "base") $("low").value = $("high").value = ""; // those of another map
    applyView(id); saveSoon();
  }));
  $("grid").addEventListener("scroll", () => drawRows(false), { passive: true });
  new ResizeObserver(() => { drawRows(false); reveal(); }).observe($("grid"));
  for (const done of ["load", "error"]) $("sheet").addEventListener(done, () => $("sheet").removeAttribute("aria-busy"));
  $("note").addEventListener("change", () => judge(verdicts.get(table.name[selected])?.verdict ?? "", $("note").value));
  $("share").addEventListener("click", async () => { saveState(); try { await navigator.clipboard.writeText(location.href); $("summary").textContent = "Link copied"; } catch { prompt("Link to this view", location.href); } });
  $("help").addEventListener("click", () => $("keys").showModal());
  const page = () => Math.max(1, Math.floor($("grid").clientHeight / ROW) - 2);
  const keys = { ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(page()), PageUp: () => step(-page()), Home: () => step(-n), End: () => step(n),
    Enter: () => selected >= 0 && select(selected, { fly: true }), c: () => judge("cluster"), m: () => judge("maybe"), x: () => judge("no cluster"), u: () => judge(""),
    n: () => $("note").focus(), "/": () => $("search").focus(), d: () => selected >= 0 && window.open(dossier(table.name[selected]), "_blank", "noopener"), "?": () => $("keys").showModal() };
  document.addEventListener("keydown", event => {
    const typing = event.target.closest("input,select,textarea,dialog");
    if (typing) { if (event.key === "Escape") $("grid").focus(); return; }
    const inGrid = event.target === $("grid") || event.target === document.body;
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key] || (!inGrid && event.key.length > 1)) return;
    event.preventDefault(); keys[event.key]();
  });
  addEventListener("hashchange", event => {
    // A save that was waiting may have overwritten the address between the change and this event: what was asked for holds.
    clearTimeout(saving);
    history.replaceState(null, "", new URL(event.newURL).hash);
    readState(); applyFilters(); VIEW.forEach(applyView);
    document.querySelectorAll("#layers input").forEach(box => box.follow());
    const asked = state();
    if (asked.has("l")) sky.goto(Number(asked.get("l")), Number(asked.get("b")), Number(asked.get("fov")));
    select(selected, { scroll: true, fly: !asked.has("l") }); tellUnknown();
  });
}

start().catch(error => { $("summary").textContent = `The explorer could not start: ${error.message}`; console.error(error); });
