/* The marks of a lossatlas map: glyphs and lines over it, their key, and what is told of each. */
"use strict";
window.lossatlasMarks = ({ facts, viewer, bytes, plain, layer, shown, centred, onScreen, position }) => {
  const marked = window.LOSSATLAS_MARKS; // absent where a map has none
  const $ = (query) => document.querySelector(query);
  const floats = (text, wide) => {
    const packed = bytes(text), view = new DataView(packed.buffer);
    const get = wide === 8 ? (k) => view.getFloat64(8 * k, true) : (k) => view.getFloat32(4 * k, true);
    return Float64Array.from({ length: packed.length / wide }, (_, k) => get(k));
  };
  const marks = (() => {
    if (!marked) return { all: [], groups: [], places: {}, own: {} };
    const finished = bytes(marked.finished);
    const all = marked.groups.flatMap((group) => group.names.map((name, k) => ({ group, name, number: group.numbers[k], last: k + 1 === group.names.length })));
    all.forEach((mark, k) => { mark.k = k; mark.finished = finished[k]; });
    const unpacked = (table, wide) => Object.fromEntries(Object.entries(table).map(([key, text]) => [key, floats(text, wide)]));
    return { all, groups: marked.groups, places: unpacked(marked.places, 8), own: unpacked(marked.own, 4) };
  })();
  const many = marks.all.length, crowd = many > 2000;
  const size = 1.25 * (!crowd ? Math.min(Math.max(5.2 * (40 / Math.max(many, 40)) ** 0.28, 2.1), 5.2) : Math.max(2.1 * (2000 / many) ** 0.25, 0.8));
  const place4 = (k) => { const p = marks.places[layer().frame]; return p && { x: p[4 * k], y: p[4 * k + 1], off: p[4 * k + 2], fade: p[4 * k + 3] }; };
  const ownOf = (quantity, k) => { const own = marks.own[`${quantity}-${layer().split}`]; return own ? own[k] : undefined; };
  const mix = (a, b, part) => "#" + [1, 3, 5].map((i) => {
    const [x, y] = [a, b].map((c) => Number.parseInt(c.slice(i, i + 2), 16));
    return Math.round(x + part * (y - x)).toString(16).padStart(2, "0");
  }).join("");
  const toned = (value) => {
    const { stops, nan, inf } = facts.quantities[layer().quantity];
    if (Number.isNaN(value)) return nan;
    if (value === Infinity) return inf;
    const at = position(value) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return mix(stops[low], stops[low + 1], at - low);
  };
  const inside = ({ group, finished, k }) => {
    if (!finished) return group.casing;
    const value = ownOf(layer().quantity, k);
    return value === undefined ? group.colour : toned(value);
  };
  // The glyphs of posters, see renders/page/glyph.py.
  const areas = { ring: 1.06, square: 1.22, diamond: 1.24, triangle: 1.46, cross: 1.2, plus: 1.22 };
  const rims = { ring: 0.14, cross: 0.15, plus: 0.15 };
  const trace = (pen, glyph, x, y, radius, grown) => {
    const r = radius * (areas[glyph] || 1);
    const polygon = (points) => { points.forEach(([px, py], k) => pen[k ? "lineTo" : "moveTo"](x + px, y + py)); pen.closePath(); };
    pen.beginPath();
    if (glyph === "circle") pen.arc(x, y, Math.max(r + grown, 0.1), 0, 7);
    else if (glyph === "ring") {
      pen.arc(x, y, Math.max(r + grown, 0.1), 0, 2 * Math.PI);
      const hole = 0.42 * r - grown;
      if (hole > 0) { pen.moveTo(x + hole, y); pen.arc(x, y, hole, 0, 2 * Math.PI, true); }
    } else if (glyph === "cross" || glyph === "plus") {
      const a = Math.max(0.36 * r + grown, 0.04 * r), b = Math.max(r + grown, 0.1 * r), t = glyph === "cross" ? Math.SQRT1_2 : 1, s = glyph === "cross" ? Math.SQRT1_2 : 0;
      polygon([[a, a], [b, a], [b, -a], [a, -a], [a, -b], [-a, -b], [-a, -a], [-b, -a], [-b, a], [-a, a], [-a, b], [a, b]].map(([u, v]) => [t * u - s * v, s * u + t * v]));
    } else {
      const n = glyph === "triangle" ? 3 : 4, first = { square: Math.PI / 4, diamond: 0, triangle: Math.PI / 2 }[glyph];
      const scale = Math.max(1 + grown / (r * Math.cos(Math.PI / n)), 0.05) * r;
      polygon(Array.from({ length: n }, (_, k) => first + (2 * Math.PI * k) / n).map((turn) => [scale * Math.cos(turn), (n === 3 ? 0.12 * r : 0) - scale * Math.sin(turn)]));
    }
  };
  const sheets = ({ glyph, casing, colour }) => [[0.62, casing, 0.22], [0.26, casing, 0.92], [0, colour, 1], [-(rims[glyph] || 0.3), null, 1]];
  const stampMark = (pen, group, x, y, radius, fill, layers = sheets(group)) => {
    for (const [grown, colour, alpha] of layers) {
      pen.globalAlpha = alpha; pen.fillStyle = colour || fill;
      trace(pen, group.glyph, x, y, radius, grown * radius);
      pen.fill();
    }
  };
  const joined = (pen, group, radius, ways) => {
    pen.lineCap = "butt";
    for (const [share, colour, alpha] of [[2.9, group.casing, 0.16], [1.75, group.casing, 0.72], [1, group.colour, 1]]) {
      pen.strokeStyle = colour; pen.lineWidth = Math.max(share * 0.44 * radius, 0.8);
      for (const [a, b, opaque] of ways) {
        pen.globalAlpha = alpha * opaque;
        pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x, b.y); pen.stroke();
      }
    }
  };
  const canvas = $("#marks");
  let spots = [];
  const sharp = (node, width, height) => {
    const ratio = window.devicePixelRatio || 1;
    node.width = Math.round(width * ratio); node.height = Math.round(height * ratio);
    const pen = node.getContext("2d");
    pen.scale(ratio, ratio);
    return pen;
  };
  const paint = () => {
    if (!many) return;
    $("#key").hidden = !shown();
    canvas.hidden = !shown();
    spots = [];
    if (!shown() || !marks.places[layer().frame]) return;
    const { clientWidth: width, clientHeight: height } = viewer.container;
    const pen = sharp(canvas, width, height);
    const at = marks.all.map(({ k }) => { const p = place4(k); return { ...onScreen(p.x, p.y), fade: p.fade }; });
    const seen = (p) => p.x > -20 && p.y > -20 && p.x < width + 20 && p.y < height + 20;
    for (const group of marks.groups) {
      if (!group.line) continue;
      const ways = marks.all.filter((m) => m.group === group && !m.last).map(({ k }) => [at[k], at[k + 1], 1 - 0.84 * Math.min((at[k].fade + at[k + 1].fade) / 2, 1)]);
      joined(pen, group, size, ways.filter(([a, b]) => Math.max(a.x, b.x) > 0 && Math.max(a.y, b.y) > 0 && Math.min(a.x, b.x) < width && Math.min(a.y, b.y) < height));
    }
    for (const mark of marks.all) if (seen(at[mark.k])) spots.push([at[mark.k].x, at[mark.k].y, mark]);
    if (!crowd) for (const [x, y, mark] of spots) stampMark(pen, mark.group, x, y, size, inside(mark));
    // A crowd has one outline: casings beneath all rims, and those beneath all insides.
    else for (const group of marks.groups) {
      const own = spots.filter(([, , mark]) => mark.group === group);
      for (const layer of sheets(group).slice(1)) for (const [x, y, mark] of own) stampMark(pen, group, x, y, size, inside(mark), [layer]);
    }
  };
  const key = () => {
    $("#key").replaceChildren(...marks.groups.map((group) => {
      const li = document.createElement("li"), sample = document.createElement("canvas"), words = document.createElement("span");
      const wide = group.line ? 30 : 16;
      sample.style.width = `${wide}px`; sample.style.height = "16px";
      const pen = sharp(sample, wide, 16);
      if (group.line) joined(pen, group, 5, [[{ x: 1, y: 8 }, { x: wide - 1, y: 8 }, 1]]);
      stampMark(pen, group, wide / 2, 8, 4.6, getComputedStyle(document.documentElement).getPropertyValue("--paper").trim());
      words.textContent = group.label; li.append(sample, words);
      return li;
    }));
    $("#key").hidden = !many || !shown();
  };
  // The mark nearest to where numbers are read, if it is as near as a finger or a pointer aims.
  const tell = (at) => {
    const card = $("#mark");
    card.hidden = true;
    if (!at || !spots.length) return null;
    const p = viewer.viewport.viewportToViewerElementCoordinates(at);
    const reach = size + (centred() ? 12 : 6);
    let best = null, near = reach;
    for (const spot of spots) {
      const far = Math.hypot(spot[0] - p.x, spot[1] - p.y);
      if (far <= near) { near = far; best = spot; }
    }
    if (!best) return null;
    card.hidden = false;
    const [x, y, mark] = best, rows = [];
    const counted = mark.number === null || new RegExp(`(^|\\D)0*${mark.number}(\\D|$)`).test(mark.name) ? "" : ` · ${/step|iter/i.test(mark.name) ? "step" : "epoch"} ${mark.number}`;
    for (const quantity of Object.keys(facts.quantities)) {
      const own = ownOf(quantity, mark.k);
      if (own !== undefined) rows.push([`own ${quantity.replace("_", " ")}`, mark.finished ? plain(own) : "not computed"]);
    }
    rows.push([facts.units === "patch" ? "off the patch" : "off the plane", plain(place4(mark.k).off)]);
    const b = document.createElement("b"), small = document.createElement("small"), dl = document.createElement("dl");
    b.textContent = mark.name + counted; small.textContent = mark.group.label;
    for (const row of rows) row.forEach((words, k) => { const cell = document.createElement(k ? "dd" : "dt"); cell.textContent = words; dl.append(cell); });
    card.replaceChildren(b, small, dl);
    const { clientWidth: width, clientHeight: height } = viewer.container;
    const left = x + 18 + card.offsetWidth > width ? x - 18 - card.offsetWidth : x + 18;
    const top = Math.min(Math.max(y - card.offsetHeight / 2, 8), height - card.offsetHeight - 8);
    card.style.transform = `translate(${Math.max(left, 8).toFixed(1)}px, ${top.toFixed(1)}px)`;
    return { x, y };
  };
  // Whether a mark stands on a place of the screen, so that nothing else need be drawn there.
  const on = (p) => !crowd && spots.some(([x, y]) => Math.hypot(x - p.x, y - p.y) < 6);
  return { size, paint, key, tell, on };
};
