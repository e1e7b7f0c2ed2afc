/* The page of a lossatlas map: deep zoom, numbers under the cursor, curve and points over it. */
"use strict";
(() => {
  const facts = window.LOSSATLAS;
  const $ = (query) => document.querySelector(query);
  const svg = (name, attributes = {}, parent) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (parent) parent.append(node);
    return node;
  };
  const root = document.documentElement;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

  // Light or dark: what was chosen here before, else what the export said.
  const remembered = (() => { try { return localStorage.getItem("lossatlas-theme"); } catch { return null; } })();
  if (remembered) root.dataset.theme = remembered;
  const turn = () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("lossatlas-theme", root.dataset.theme); } catch { /* a private window */ }
  };

  const trouble = (words) => { const p = $("#trouble"); p.textContent = words; p.hidden = false; };
  if (!window.OpenSeadragon) {
    trouble("The viewer (OpenSeadragon) could not be loaded. It comes from a public CDN here: connect to the network, or export the map where npm is installed.");
    return;
  }

  // Numbers

  const values = new Map();
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const unpack = (id) => {
    const raw = (window.LOSSATLAS_VALUES || {})[id];
    if (!raw || values.has(id)) return;
    const packed = bytes(raw.values);
    const view = new DataView(packed.buffer);
    const array = new Float32Array(packed.length / 4);
    for (let k = 0; k < array.length; k++) array[k] = view.getFloat32(4 * k, true);
    values.set(id, { array, finished: raw.finished && bytes(raw.finished), top: raw.top, doubts: raw.doubts && bytes(raw.doubts) });
    delete window.LOSSATLAS_VALUES[id];
  };
  const asked = new Set();
  const load = (id) => {
    if (values.has(id) || asked.has(id)) return;
    asked.add(id);
    const script = document.createElement("script");
    script.src = `values/${encodeURIComponent(id)}.js`;
    script.onload = () => { unpack(id); read(); };
    document.head.append(script);
  };
  const plain = (v) => {
    if (Number.isNaN(v)) return "NaN";
    if (!Number.isFinite(v)) return v > 0 ? "∞" : "−∞";
    const size = Math.abs(v);
    const text = size && (size < 1e-3 || size >= 1e5) ? v.toExponential(2) : v.toLocaleString("en", { maximumSignificantDigits: 4, minimumSignificantDigits: 3 });
    return text.replace("-", "−");
  };

  // State

  let layer = facts.layers[0];
  let pointer = null;      // where the numbers are read: viewport coordinates, or null for the middle
  let overlaid = true;
  let centred = matchMedia("(pointer: coarse)").matches; // whether a ring marks the middle
  const frame = () => facts.frames[layer.frame];
  const aspect = () => frame().size[1] / frame().size[0];
  const toPlane = (p) => {
    const [x0, x1, y0, y1] = frame().extent;
    return { x: x0 + p.x * (x1 - x0), y: y1 - (p.y / aspect()) * (y1 - y0) };
  };
  const toView = (x, y) => {
    const [x0, x1, y0, y1] = frame().extent;
    return new OpenSeadragon.Point((x - x0) / (x1 - x0), ((y1 - y) / (y1 - y0)) * aspect());
  };
  const nearest = (plane) => {
    const [x0, x1, y0, y1] = frame().extent;
    const { width, height } = facts.grid;
    const i = Math.round(((plane.x - x0) / (x1 - x0)) * (width - 1));
    const j = Math.round(((plane.y - y0) / (y1 - y0)) * (height - 1));
    if (i < 0 || j < 0 || i >= width || j >= height) return null;
    return { i, j, x: x0 + (i / Math.max(width - 1, 1)) * (x1 - x0), y: y0 + (j / Math.max(height - 1, 1)) * (y1 - y0) };
  };
  const valueAt = (id, { i, j }) => {
    const known = values.get(id);
    if (!known) return undefined;
    const k = j * facts.grid.width + i;
    if (known.finished && !((known.finished[k >> 3] >> (k & 7)) & 1)) return null;
    return known.array[k];
  };
  // Where a map has predictions: how the number at a point was come by.
  const originOf = (id, { i, j }) => {
    const known = values.get(id);
    if (!known || !known.doubts) return "";
    const k = j * facts.grid.width + i;
    const code = (known.doubts[k >> 1] >> (4 * (k & 1))) & 15;
    if (!code) return "evaluated";
    return code === 15 ? "predicted" : `predicted ± ${rough(2 ** (known.top - 14 + code))}`;
  };
  const rough = (v) => (v < 1e-12 ? "0" : v < 1e-4 || v >= 1e5 ? v.toExponential(0).replace("-", "−") : String(Number(v.toPrecision(1))));

  // The deep zoom

  const source = (one) => {
    const [width, height] = facts.frames[one.frame].size;
    return { width, height, tileSize: facts.tile, tileOverlap: facts.overlap,
      getTileUrl: (level, x, y) => `tiles/${encodeURIComponent(one.id)}_files/${level}/${x}_${y}.jpg` };
  };
  const viewer = OpenSeadragon({
    element: $("#deepzoom"), tileSources: [source(layer)], drawer: "canvas",
    showNavigationControl: false, animationTime: still ? 0 : 0.55, springStiffness: 9,
    visibilityRatio: 0.6, constrainDuringPan: true, minZoomImageRatio: 0.8, maxZoomPixelRatio: 3,
    zoomPerScroll: 1.25, imageLoaderLimit: 8, immediateRender: false, tabIndex: -1,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true, pinchRotate: false },
  });
  viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
  viewer.addHandler("tile-load-failed", () => { root.dataset.failed = "yes"; });

  const show = (next) => {
    if (!next || next === layer) return;
    const old = viewer.world.getItemAt(0);
    const reshaped = facts.frames[next.frame].size[1] !== frame().size[1];
    layer = next;
    viewer.addTiledImage({ tileSource: source(next), success: ({ item }) => {
      // The old picture stays beneath until the new one has come.
      const done = () => { if (old && viewer.world.getIndexOfItem(old) >= 0) viewer.world.removeItem(old); };
      if (item.getFullyLoaded()) done();
      else item.addOnceHandler("fully-loaded-change", done);
      setTimeout(done, 4000);
      if (reshaped) viewer.viewport.goHome(true);
    } });
    describe(); draw(); read(); remember();
  };

  // Curve, points, the nearest computed point

  const overlay = $("#overlay");
  const [light, dark] = facts.pens;
  const subscript = (name) => (/^w\d+$/.test(name) ? "w" + name.slice(1).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]) : name);
  let drawn = null;
  const draw = () => {
    overlay.replaceChildren();
    const group = svg("g", {}, overlay);
    const strokes = [[7, dark, 0.22], [5, dark, 0.7], [2.6, light, 1]].map(([width, colour, opacity]) =>
      svg("path", { stroke: colour, "stroke-width": width, "stroke-opacity": opacity }, group));
    const points = frame().anchors.map((anchor) => {
      const g = svg("g", {}, group);
      svg("circle", { r: 8, fill: dark, opacity: 0.85 }, g);
      svg("circle", { r: 6.2, fill: light }, g);
      svg("circle", { r: 3, fill: dark }, g);
      const name = svg("text", { y: 5.5, fill: light, stroke: dark }, g);
      name.textContent = subscript(anchor.name);
      return [anchor, g, name];
    });
    const reticle = svg("g", { class: "reticle", opacity: 0 }, overlay);
    svg("circle", { r: 6.5, fill: "none", stroke: dark, "stroke-width": 3.4, "stroke-opacity": 0.5 }, reticle);
    svg("circle", { r: 6.5, fill: "none", stroke: light, "stroke-width": 1.4 }, reticle);
    const chosen = svg("g", { opacity: 0 }, overlay);
    const round = marks.size + 5;
    svg("circle", { r: round, fill: "none", stroke: dark, "stroke-width": 3.6, "stroke-opacity": 0.6 }, chosen);
    svg("circle", { r: round, fill: "none", stroke: light, "stroke-width": 1.6 }, chosen);
    drawn = { group, strokes, points, reticle, chosen };
    marks.key();
    place();
  };
  const onScreen = (x, y) => viewer.viewport.viewportToViewerElementCoordinates(toView(x, y));
  const place = () => {
    if (!drawn || !viewer.viewport || !viewer.world.getItemCount()) return;
    drawn.group.setAttribute("visibility", overlaid ? "visible" : "hidden");
    const path = frame().curve.map(([x, y], k) => {
      const p = onScreen(x, y);
      return `${k ? "L" : "M"}${p.x.toFixed(1)} ${p.y.toFixed(1)}`;
    }).join("");
    for (const stroke of drawn.strokes) stroke.setAttribute("d", path);
    marks.paint();
    // Names stand outwards, off the curve, unless the screen ends there.
    const middle = frame().anchors.reduce((sum, a) => sum + a.x, 0) / Math.max(frame().anchors.length, 1);
    for (const [anchor, g, name] of drawn.points) {
      const p = onScreen(anchor.x, anchor.y);
      const room = name.getComputedTextLength() + 24;
      const leftwards = (anchor.x < middle && p.x > room) || p.x > viewer.container.clientWidth - room;
      for (const ring of g.querySelectorAll("circle")) ring.setAttribute("visibility", marks.on(p) ? "hidden" : "inherit");
      name.setAttribute("x", leftwards ? -15 : 15);
      name.setAttribute("text-anchor", leftwards ? "end" : "start");
      g.setAttribute("transform", `translate(${p.x.toFixed(1)} ${p.y.toFixed(1)})`);
    }
    measure();
  };
  const measure = () => {
    const [x0, x1] = frame().extent;
    const perPixel = (x1 - x0) * viewer.viewport.getBounds(true).width / Math.max(viewer.container.clientWidth, 1);
    const longest = 150 * perPixel;
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = power * (longest >= 5 * power ? 5 : longest >= 2 * power ? 2 : 1);
    const where = { euclidean: "in weight space", "filter-normalised": "filter-normalised", "layer-normalised": "layer-normalised" }[facts.units] || "";
    $("#bar").hidden = !frame().equal;
    $("#bar span").textContent = `${length >= 1e-4 && length < 1e5 ? Number(length.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 }) : length.toExponential(0)} ${where}`;
    $("#bar i").style.width = `${length / perPixel}px`;
  };

  // Marks: see marks.js

  const marks = window.lossatlasMarks({
    facts, viewer, bytes, plain,
    layer: () => layer, shown: () => overlaid, centred: () => centred,
    onScreen: (x, y) => onScreen(x, y), position: (value) => position(value),
  });

  // Reading out

  const output = $("#readout");
  const read = () => {
    if (!viewer.viewport || !viewer.world.getItemCount()) return;
    const at = pointer || viewer.viewport.getCenter(true);
    const plane = toPlane(at);
    const point = nearest(plane);
    const shown = facts.layers.filter((l) => l.split === layer.split && l.frame === layer.frame);
    const cells = shown.map((l) => {
      const value = point ? valueAt(l.id, point) : undefined;
      const words = value === undefined ? "–" : value === null ? "not computed" : plain(value);
      return [l.quantity.replace("_", " "), words, value, l, typeof value === "number" ? originOf(l.id, point) : ""];
    });
    output.replaceChildren();
    const cell = (name, words, italic, origin) => {
      const div = document.createElement("div");
      const small = document.createElement("small");
      const span = document.createElement("span");
      small.textContent = name; span.textContent = words;
      if (italic) small.className = "it";
      if (words === "not computed") span.className = "no";
      div.dataset.of = name; div.append(small, span); output.append(div);
      if (!origin) return;
      const em = document.createElement("em");
      em.textContent = origin; div.append(em);
    };
    for (const [name, words, , , origin] of cells) cell(name, words, false, origin);
    cell(facts.axes[0], plain(plane.x), true);
    cell(facts.axes[1], plain(plane.y), true);
    const mine = cells.find(([, , , l]) => l === layer);
    mark(mine && typeof mine[2] === "number" ? mine[2] : NaN);
    aim(point);
    const chosen = marks.tell(pointer || centred ? at : null);
    drawn?.chosen.setAttribute("opacity", chosen ? 1 : 0);
    if (chosen) drawn?.chosen.setAttribute("transform", `translate(${chosen.x.toFixed(1)} ${chosen.y.toFixed(1)})`);
  };
  const mark = (value) => {
    const tick = $("#ramp u");
    const part = position(value);
    tick.style.opacity = Number.isFinite(part) ? 1 : 0;
    if (Number.isFinite(part)) tick.style.left = `${100 * part}%`;
  };
  const position = (value) => {
    const { space: kind, low, high, floor, cdf } = facts.quantities[layer.quantity].tone;
    const space = kind === "log" ? (v) => Math.log(Math.max(v, floor)) : (v) => v;
    const part = Math.min(1, Math.max(0, (space(value) - space(low)) / (space(high) - space(low))));
    if (!cdf.length || Number.isNaN(part)) return part;
    const k = Math.min(Math.floor(part * (cdf.length - 1)), cdf.length - 2);
    return cdf[k] + (cdf[k + 1] - cdf[k]) * (part * (cdf.length - 1) - k);
  };
  const aim = (point) => {
    if (!drawn) return;
    const step = viewer.container.clientWidth / viewer.viewport.getBounds(true).width / Math.max(facts.grid.width - 1, 1);
    // The ring shows which computed point is read, once points lie apart on the screen.
    const visible = point && (pointer ? step > 9 : centred);
    drawn.reticle.setAttribute("opacity", visible ? 1 : 0);
    if (!visible) return;
    const p = onScreen(point.x, point.y);
    drawn.reticle.setAttribute("transform", `translate(${p.x.toFixed(1)} ${p.y.toFixed(1)})`);
  };
  const follow = (event) => {
    centred = event.pointerType === "touch";
    const box = $("#map").getBoundingClientRect();
    pointer = viewer.viewport.viewerElementToViewportCoordinates(new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top));
    read();
  };
  $("#map").addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" || event.pointerType === "pen") follow(event); });
  $("#map").addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") { pointer = null; read(); } });
  $("#map").addEventListener("pointerdown", (event) => { if (event.pointerType === "touch") { pointer = null; read(); } });
  viewer.addHandler("canvas-click", (event) => { if (event.quick && event.originalEvent.pointerType === "touch") follow(event.originalEvent); });

  // What is said around the map

  const describe = () => {
    const legend = facts.quantities[layer.quantity];
    $("#scale b").textContent = `${layer.split} ${legend.title}`;
    $("#scale i").textContent = legend.unit;
    $("#ramp").style.background = `linear-gradient(90deg, ${legend.stops.join(", ")})`;
    $("#scale ol").replaceChildren(...legend.ticks.map(([at, words]) => {
      const li = document.createElement("li");
      li.style.left = `${100 * at}%`; li.textContent = words;
      return li;
    }));
    for (const button of document.querySelectorAll(".choice button")) button.setAttribute("aria-pressed", String(layer[button.dataset.key] === button.value));
    const slider = $(".frames input");
    if (slider) { slider.value = String(frames.indexOf(layer.frame)); $(".frames span").textContent = `frame ${layer.frame + 1}`; }
    for (const l of facts.layers) if (l.split === layer.split && l.frame === layer.frame) load(l.id);
  };
  const distinct = (key) => [...new Set(facts.layers.map((l) => l[key]))];
  const frames = distinct("frame");
  const find = (wanted) => facts.layers.find((l) => l.quantity === wanted.quantity && l.split === wanted.split && l.frame === wanted.frame);
  const choices = [];
  for (const key of ["quantity", "split"]) {
    const options = distinct(key);
    if (options.length < 2) continue;
    const box = document.createElement("div");
    box.className = "choice"; box.setAttribute("role", "group"); box.setAttribute("aria-label", key);
    for (const option of options) {
      const button = document.createElement("button");
      button.type = "button"; button.value = option; button.dataset.key = key; button.textContent = option.replace("_", " ");
      // Quantities of curvature are of one split alone: the other choice then follows.
      const beside = () => facts.layers.find((l) => l[key] === option && l.frame === layer.frame);
      button.onclick = () => show(find({ ...layer, [key]: option }) || beside());
      choices.push(button); box.append(button);
    }
    $("#choices").append(box);
  }
  if (frames.length > 1) {
    const box = document.createElement("label");
    box.className = "frames";
    const input = document.createElement("input");
    input.type = "range"; input.min = "0"; input.max = String(frames.length - 1); input.setAttribute("aria-label", "frame");
    input.oninput = () => show(find({ ...layer, frame: frames[Number(input.value)] }));
    box.append(document.createElement("span"), input); $("#choices").append(box);
  }
  $("#facts").textContent = `${facts.about.join(" · ")} · ${facts.signature}`;

  // Keys, buttons, the address

  const act = {
    in: () => viewer.viewport.zoomBy(1.6).applyConstraints(),
    out: () => viewer.viewport.zoomBy(1 / 1.6).applyConstraints(),
    home: () => viewer.viewport.goHome(),
    lines: () => { overlaid = !overlaid; place(); read(); },
    theme: turn,
  };
  for (const button of document.querySelectorAll("#zoom button")) button.onclick = () => act[button.dataset.do]();
  const pan = (dx, dy) => {
    pointer = null;
    centred = true;
    viewer.viewport.panBy(viewer.viewport.deltaPointsFromPixels(new OpenSeadragon.Point(dx, dy))).applyConstraints();
  };
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
    const keys = {
      ArrowLeft: () => pan(-90, 0), ArrowRight: () => pan(90, 0), ArrowUp: () => pan(0, -90), ArrowDown: () => pan(0, 90),
      "+": act.in, "=": act.in, "-": act.out, "−": act.out, 0: act.home, t: act.theme, c: act.lines,
    };
    const chosen = /^[1-9]$/.test(event.key) ? () => choices[Number(event.key) - 1]?.click() : keys[event.key];
    if (!chosen) return;
    event.preventDefault();
    chosen();
  });

  const remember = () => {
    const middle = toPlane(viewer.viewport.getCenter());
    const zoom = viewer.viewport.getZoom() / viewer.viewport.getHomeZoom();
    const words = new URLSearchParams({ layer: layer.id, x: middle.x.toPrecision(6), y: middle.y.toPrecision(6), zoom: zoom.toPrecision(4) });
    history.replaceState(null, "", `#${words}`);
  };
  viewer.addHandler("open", () => {
    const words = new URLSearchParams(location.hash.slice(1));
    const [x, y, zoom] = ["x", "y", "zoom"].map((key) => Number.parseFloat(words.get(key)));
    show(facts.layers.find((l) => l.id === words.get("layer")));
    if ([x, y, zoom].every(Number.isFinite) && zoom > 0) {
      viewer.viewport.zoomTo(zoom * viewer.viewport.getHomeZoom(), null, true);
      viewer.viewport.panTo(toView(x, y), true).applyConstraints(true);
    }
    describe(); draw(); read();
    root.dataset.ready = "yes";
  });
  viewer.addHandler("update-viewport", () => { place(); read(); });
  viewer.addHandler("animation-finish", remember);
  viewer.addHandler("open-failed", () => trouble("The tiles of this map could not be read."));
  window.lossatlas = { viewer, toView, toPlane };
})();
