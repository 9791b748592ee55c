// The sky: Aladin Lite over the run's own HiPS where the browser has WebGL2, a still Mollweide picture where not.
// Both offer the same: goto, show, select, layer settings, and a call back when a source is clicked or the view moves.

const RADIAN = Math.PI / 180;

export function hasWebGL2() {
  try { return Boolean(document.createElement("canvas").getContext("webgl2")); } catch { return false; }
}

// Mollweide: 2t + sin 2t = pi sin b (Snyder 1987, p. 251); x in -2..2 growing to the left, y in -1..1.
export function mollweide(lon, lat) {
  const target = Math.PI * Math.sin(lat * RADIAN);
  let low = -Math.PI, high = Math.PI;
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (middle + Math.sin(middle) < target) low = middle; else high = middle;
  }
  const t = (low + high) / 4, wrapped = ((lon + 180) % 360 + 360) % 360 - 180;
  return [-2 * wrapped / 180 * Math.cos(t), Math.sin(t)];
}

export async function openSky(element, run, callbacks) {
  let reason = "This browser has no WebGL2";
  if (hasWebGL2()) {
    try { return await AladinSky.open(element, run, callbacks); } catch (error) { reason = `The interactive map did not start (${error.message})`; console.error(error); }
  }
  return Object.assign(new StillSky(element, run, callbacks), { reason });
}

// Aladin draws every frame anew, whatever has changed, which takes more than a core where GL runs in software. It goes on
// for this long after the last thing that may change the picture, and as long as it says itself that something moves.
const AWAKE_MS = 500;

// Aladin goes through all of its sources at every frame: where there are more, it has those in view, highest p first.
const MOST = 5000;

class AladinSky {
  static async open(element, run, callbacks) {
    const { default: A } = await import("/aladin.js");
    await A.init;
    const sky = new AladinSky();
    Object.assign(sky, { A, run, kind: "aladin", layers: new Map(run.layers.map(l => [l.name, l])), shown: null, known: new Map(), nShown: 0, most: MOST,
      wanted: "MOL", projection: "MOL" });
    const nothing = Object.fromEntries(["LayersControl", "GotoControl", "Frame", "ZoomControl", "FullscreenControl",
      "SimbadPointerControl", "CooGridControl", "ProjectionControl", "SettingsControl", "ShareControl", "StatusBar",
      "Reticle", "ContextMenu", "CooLocation", "Fov", "ColorPickerControl"].map(name => ["show" + name, false]));
    const first = sky.hips(run.layers[0].name);
    sky.view = A.aladin(element, { ...nothing, survey: first, hipsList: [], log: false, samp: false, cooFrame: "galactic",
      projection: "MOL", fov: 360, target: "0 0", showZoomControl: true, backgroundColor: "rgb(38,40,44)" });
    sky.view.constructor.DEFAULT_OPTIONS.survey = sky.url(run.layers[0].name); // never another host's, whatever fails
    sky.base = run.layers[0].name; sky.baseHips = first;
    sky.candidates = A.catalog({ name: "candidates", shape: "circle", sourceSize: 9, color: "#ffffff",
      onClick: source => callbacks.pick(source.data.row), filter: source => !sky.shown || sky.shown[source.data.row] === 1 });
    sky.mark = A.catalog({ name: "selected", shape: "circle", sourceSize: 24, color: "#ff2fd0" });
    sky.view.addCatalog(sky.candidates);
    sky.view.addCatalog(sky.mark);
    sky.rest(element);
    sky.view.on("positionChanged", () => { sky.wake(); sky.place(); callbacks.moved(); });
    sky.view.on("zoomChanged", () => { sky.wake(); sky.project(); sky.place(); sky.sizeMarkers(); callbacks.moved(); });
    sky.view.on("mouseMove", at => callbacks.hover(at && at.ra !== null ? sky.view.pix2world(at.x, at.y, "ICRS") : null));
    sky.sizeMarkers();
    return sky;
  }
  rest(element) {
    const view = this.view.view, draw = view.redrawClbk; // what Aladin has called at the next frame, again and again
    let until = 0, resting = false;
    view.redrawClbk = now => {
      if (view.needRedraw || view.wasm.isRendering()) until = Math.max(until, performance.now() + AWAKE_MS);
      resting = performance.now() > until;
      if (!resting) draw(now);
    };
    this.wake = () => {
      until = performance.now() + AWAKE_MS;
      if (resting) { resting = false; requestAnimationFrame(view.redrawClbk); }
    };
    const { requestRedraw } = view;
    view.requestRedraw = () => { requestRedraw.call(view); this.wake(); };
    for (const name of ["pointermove", "pointerdown", "pointerup", "wheel", "touchmove", "keydown"]) element.addEventListener(name, this.wake, { capture: true, passive: true });
    document.addEventListener("visibilitychange", this.wake);
    new ResizeObserver(this.wake).observe(element);
    new PerformanceObserver(this.wake).observe({ type: "resource" }); // a tile has come
    this.wake();
  }
  url(name) { return `${location.origin}/hips/${name}`; }
  hips(name) {
    const layer = this.layers.get(name);
    return this.A.HiPS(this.url(name), { name: layer.title, imgFormat: "fits", cooFrame: "galactic", maxOrder: layer.order,
      tileSize: 512, minCut: layer.low, maxCut: layer.high, colormap: layer.colours, reversed: layer.reversed, stretch: layer.stretch,
      requestMode: "same-origin" });
  }
  // Thousands of markers would hide the map: faint dots (4 is the least that Aladin draws) where there are many in view.
  // On the map of p the candidates are its bright spots: they get rings around them, or nothing where there are many.
  sizeMarkers() {
    const fov = this.view.getFov()[0], part = Math.min(1, (fov / 150) ** 2), nInView = this.nShown * part;
    if (this.base === "p") this.drawAs(this.candidates, 12, nInView > 500 ? 0 : 0.8, "255,255,255");
    else this.sizeAs(this.candidates, nInView, "255,255,255");
    for (const { catalog, n, rgb } of this.known.values()) this.sizeAs(catalog, n * part, rgb);
  }
  sizeAs(catalog, crowd, rgb) {
    this.drawAs(catalog, ...(crowd > 2500 ? [4, 0.3] : crowd > 700 ? [4, 0.6] : crowd > 150 ? [6, 0.9] : [10, 1]), rgb);
  }
  drawAs(catalog, sourceSize, strength, rgb) {
    const color = `rgba(${rgb},${strength})`;
    if (sourceSize !== catalog.getSourceSize() || color !== catalog.color) catalog.updateShape({ sourceSize, color });
  }
  // Aladin keeps a layer's settings by its address, whatever is asked of it anew: all are set again on what is shown.
  setBase(name) {
    if (name === this.base) return;
    this.base = name; this.baseHips = this.hips(name);
    this.view.setBaseImageLayer(this.baseHips);
    this.baseHips.setOpacity(1);
    this.sizeMarkers(); this.wake();
  }
  setOverlay(name, opacity) {
    this.wake();
    if (!name) { if (this.over) this.view.removeImageLayer("over"); this.over = ""; return; }
    if (name !== this.over) { this.over = name; this.overHips = this.hips(name); this.view.setOverlayImageLayer(this.overHips, "over"); }
    const { low, high, colours, reversed, stretch } = this.layers.get(name);
    this.overHips.setCuts(low, high);
    this.overHips.setColormap(colours, { stretch, reversed });
    this.overHips.setOpacity(Number(opacity));
  }
  setStretch(stretch) {
    const layer = this.layers.get(this.base);
    this.baseHips.setColormap(layer.colours, { stretch: stretch || layer.stretch, reversed: layer.reversed });
    this.wake();
  }
  setLimits(low, high) { if (low < high) this.baseHips.setCuts(low, high); this.wake(); }
  setFrame(frame) { this.view.setFrame(frame); }
  setProjection(projection) { this.wanted = projection; this.project(); }
  // Mollweide stretches by a quarter even at its centre: close by, "auto" is the tangent plane.
  project(fov = this.view.getFov()[0]) {
    const asked = this.wanted !== "auto" ? this.wanted : fov > 60 ? "MOL" : fov < 40 ? "TAN" : this.projection;
    if (asked !== this.projection) { this.projection = asked; this.view.setProjection(asked); }
  }
  setCandidates(table) {
    this.table = table;
    this.directions = Float32Array.from({ length: 3 * table.name.length });
    table.ra_deg.forEach((ra, row) => this.directions.set(unit(ra, table.dec_deg[row]), 3 * row));
    if (table.name.length > MOST) this.place(); else this.give(table.name.map((_, row) => row));
  }
  place() { if (this.table?.name.length > MOST) this.give(this.rowsInView()); }
  rowsInView() {
    const [width, height] = this.view.getFov(), far = 0.7 * Math.hypot(width, height); // of half the diagonal, and more
    const least = far < 90 ? Math.cos(far * RADIAN) : -2, [x, y, z] = unit(...this.view.getRaDec()), rows = [];
    for (let row = 0, d = this.directions; row < this.table.name.length && rows.length < MOST; row++) {
      if ((!this.shown || this.shown[row]) && x * d[3 * row] + y * d[3 * row + 1] + z * d[3 * row + 2] >= least) rows.push(row);
    }
    return rows;
  }
  give(rows) {
    const { ra_deg, dec_deg } = this.table;
    this.candidates.removeAll?.();
    this.candidates.addSources(rows.map(row => this.A.source(ra_deg[row], dec_deg[row], { row })));
  }
  show(mask, n) {
    Object.assign(this, { shown: mask, nShown: n });
    this.place(); this.sizeMarkers();
    this.candidates.reportChange?.(); this.view.view.requestRedraw();
  }
  setClusters(name, group, colour, visible) {
    if (!this.known.has(name)) {
      const catalog = this.A.catalog({ name, shape: "square", sourceSize: 9, color: colour });
      this.view.addCatalog(catalog);
      catalog.addSources(group.lon_deg.map((lon, i) => {
        const [ra, dec] = galacticToIcrs(lon, group.lat_deg[i]);
        return this.A.source(ra, dec, { name: group.name[i] });
      }));
      const rgb = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16)).join();
      this.known.set(name, { catalog, n: group.name.length, rgb });
      this.sizeMarkers();
    }
    const { catalog } = this.known.get(name);
    visible ? catalog.show() : catalog.hide();
  }
  select(table, row) {
    this.mark.removeAll?.();
    if (row >= 0) this.mark.addSources([this.A.source(table.ra_deg[row], table.dec_deg[row], { row })]);
  }
  goto(lon, lat, fov) {
    const [ra, dec] = galacticToIcrs(lon, lat);
    if (fov) { this.project(fov); this.view.setFoV(fov); this.project(fov); }
    this.view.gotoRaDec(ra, dec);
  }
  where() {
    const [ra, dec] = this.view.getRaDec();
    const [lon, lat] = icrsToGalactic(ra, dec);
    return { lon, lat, fov: this.view.getFov()[0] };
  }
  pixel(table, row) { return this.view.world2pix(table.ra_deg[row], table.dec_deg[row]); }
}

class StillSky {
  constructor(element, run, callbacks) {
    Object.assign(this, { kind: "still", most: 3000, element, callbacks, centre: { lon: 0, lat: 0, fov: 360 } });
    const picture = Object.assign(new Image(), { className: "still", src: "/sky.png", alt: "" });
    this.svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.svg.setAttribute("viewBox", "-2.02 -1.02 4.04 2.04");
    picture.style.objectFit = "contain";
    element.append(picture, this.svg);
    this.dots = this.svg.appendChild(document.createElementNS(this.svg.namespaceURI, "g"));
    this.ring = this.svg.appendChild(this.circle(0, 0, 0.03, "#ff2fd0", 0.012));
    this.ring.setAttribute("visibility", "hidden");
  }
  circle(x, y, r, colour, width) {
    const circle = document.createElementNS(this.svg.namespaceURI, "circle");
    for (const [key, value] of Object.entries({ cx: x, cy: -y, r, fill: "none", stroke: colour, "stroke-width": width })) circle.setAttribute(key, value);
    return circle;
  }
  setBase() {} setOverlay() {} setStretch() {} setLimits() {} setFrame() {} setProjection() {}
  setClusters(name, group, colour, visible) {
    this.known ??= new Map();
    if (!this.known.has(name)) {
      const path = document.createElementNS(this.svg.namespaceURI, "path"); // one for all: there may be thousands
      const squares = group.lon_deg.map((lon, i) => { const [x, y] = mollweide(lon, group.lat_deg[i]); return `M${(x - 0.008).toFixed(4)} ${(-y - 0.008).toFixed(4)}h.016v.016h-.016z`; });
      for (const [key, value] of Object.entries({ d: squares.join(""), fill: "none", stroke: colour, "stroke-width": 0.004, "pointer-events": "none" })) path.setAttribute(key, value);
      this.svg.append(path);
      this.known.set(name, path);
    }
    this.known.get(name).setAttribute("visibility", visible ? "visible" : "hidden");
  }
  setCandidates(table) {
    const some = Math.min(table.lon_deg.length, this.most); // the brightest; all are in the table
    this.dots.replaceChildren();
    for (let row = 0; row < some; row++) {
      const dot = this.circle(...mollweide(table.lon_deg[row], table.lat_deg[row]), 0.008, "#fff", 0.003);
      dot.addEventListener("click", () => this.callbacks.pick(row));
      dot.style.pointerEvents = "all";
      this.dots.append(dot);
    }
  }
  show(mask) { [...this.dots.children].forEach((dot, row) => dot.setAttribute("visibility", mask[row] ? "visible" : "hidden")); }
  select(table, row) {
    if (row < 0) { this.ring.setAttribute("visibility", "hidden"); return; }
    const [x, y] = mollweide(table.lon_deg[row], table.lat_deg[row]);
    this.ring.setAttribute("cx", x); this.ring.setAttribute("cy", -y); this.ring.setAttribute("visibility", "visible");
  }
  goto(lon, lat, fov) { this.centre = { lon, lat, fov: fov ?? this.centre.fov }; this.callbacks.moved(); }
  where() { return this.centre; }
  pixel(table, row) { return mollweide(table.lon_deg[row], table.lat_deg[row]); }
}

// Galactic <-> ICRS: the matrix of the Hipparcos catalogue (ESA 1997, Vol. 1, Eq. 1.5.11), rows x, y, z of Galactic axes.
const MATRIX = [[-0.0548755604, -0.8734370902, -0.4838350155], [0.4941094279, -0.4448296300, 0.7469822445],
  [-0.8676661490, -0.1980763734, 0.4559837762]];
const unit = (lon, lat) => [Math.cos(lat * RADIAN) * Math.cos(lon * RADIAN), Math.cos(lat * RADIAN) * Math.sin(lon * RADIAN), Math.sin(lat * RADIAN)];
const angles = ([x, y, z]) => [(Math.atan2(y, x) / RADIAN + 360) % 360, Math.atan2(z, Math.hypot(x, y)) / RADIAN];
export const icrsToGalactic = (ra, dec) => { const v = unit(ra, dec); return angles(MATRIX.map(r => r[0] * v[0] + r[1] * v[1] + r[2] * v[2])); };
export const galacticToIcrs = (lon, lat) => { const v = unit(lon, lat); return angles([0, 1, 2].map(k => MATRIX[0][k] * v[0] + MATRIX[1][k] * v[1] + MATRIX[2][k] * v[2])); };
