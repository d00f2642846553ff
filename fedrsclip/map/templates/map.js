"use strict";
const find = (id) => document.getElementById(id);
const map = JSON.parse(find("about-cells").textContent);
const { rows, columns, step, names, digits } = map;
const [across, down] = map.reach.map((cells) => cells / step); // the scene, in cells of this page
const stage = find("stage"), layers = find("layers"), canvas = find("classes"), box = find("cell");
const NONE = 65535, MANY = 10, FASTEST = 1.25;
const nearest = Math.max(8, columns / 8, rows / 8); // how far one can zoom in
const shown = new Array(names.length + 1).fill(true); // the last: no data
let planes = null; // low byte of the class, high byte, probability in per cent
let view = { x: 0, y: 0, zoom: 1 };
let cursor = null; // [row, column] of the cell that is read

async function start() {
  const packed = Uint8Array.from(atob(find("cells").textContent), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  planes = new Uint8Array(await new Response(stream).arrayBuffer());
  canvas.width = columns;
  canvas.height = rows;
  canvas.style.width = `${(100 * columns) / across}%`;
  canvas.style.height = `${(100 * rows) / down}%`;
  paint();
  fade();
  look(0, 0, 1);
  document.body.dataset.ready = "true";
}

const classOf = (cell) => {
  const code = planes[cell] | (planes[rows * columns + cell] << 8);
  return code === NONE ? names.length : code;
};

function paint() {
  const image = new ImageData(columns, rows), pixels = new Uint32Array(image.data.buffer);
  const colours = [...map.colours, map.no_data].map((text, k) => {
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
    return shown[k] ? ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0 : 0;
  });
  for (let cell = 0; cell < pixels.length; cell++) pixels[cell] = colours[classOf(cell)];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function fade() {
  const opacity = find("opacity").value;
  canvas.style.opacity = opacity / 100;
  find("opacity-value").textContent = `${opacity} %`;
}

// The row or column of the map that one of this page shows.
const own = (at, count) => Math.min(at * step + Math.floor(step / 2), count - 1);

// --- what is read ---------------------------------------------------------------------------------

function read(row, column, x = (column + 0.5) * step, y = (row + 0.5) * step) {
  if (!planes || row < 0 || column < 0 || row >= rows || column >= columns) return;
  cursor = [row, column];
  const cell = row * columns + column, k = classOf(cell), [a, b, c, d, e, f] = map.transform;
  const place = [a * x + b * y + c, d * x + e * y + f].map((value) => value.toFixed(digits));
  const what = document.createElement("strong");
  what.textContent = k === names.length ? "no data" : names[k];
  const sure = k === names.length ? "" : `, ${planes[2 * rows * columns + cell]} %`;
  const [ownRow, ownColumn] = [own(row, map.shape[0]), own(column, map.shape[1])];
  const where = ` · ${place.join(", ")} (${map.crs}) · row ${ownRow}, column ${ownColumn}`;
  find("value").replaceChildren(what, sure, where);
  Object.assign(box.style, {
    left: `${(100 * column) / across}%`, top: `${(100 * row) / down}%`,
    width: `${100 / across}%`, height: `${100 / down}%`,
  });
  box.hidden = false;
}

function readAt(event) {
  const size = stage.getBoundingClientRect();
  const x = ((event.clientX - size.left - view.x) / view.zoom / size.width) * across;
  const y = ((event.clientY - size.top - view.y) / view.zoom / size.height) * down;
  read(Math.floor(y), Math.floor(x), x * step, y * step);
}

// --- what is seen of it ---------------------------------------------------------------------------

function look(x, y, zoom) {
  const { clientWidth: width, clientHeight: height } = stage;
  const within = (value, least) => Math.min(0, Math.max(least, value));
  view = { x: within(x, width * (1 - zoom)), y: within(y, height * (1 - zoom)), zoom };
  // In per cent, so that it also holds on paper, where the stage has another size.
  const moved = `${(100 * view.x) / width}%, ${(100 * view.y) / height}%`;
  layers.style.transform = `translate(${moved}) scale(${zoom})`;
  layers.style.setProperty("--zoom", zoom);
  stage.classList.toggle("zoomed", zoom > 1);
  measure(zoom);
}

// Draw a bar of 1, 2 or 5 times a power of ten metres, at most a third of the stage long.
function measure(zoom) {
  if (!map.metres) return;
  const most = map.metres / zoom / 3;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].find((times) => times * power <= most) * power;
  const bar = find("scale");
  bar.textContent = length >= 1000 ? `${length / 1000} km` : `${+length.toPrecision(1)} m`;
  bar.style.width = `${(100 * zoom * length) / map.metres}%`;
  bar.hidden = false;
}

function zoomBy(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const zoom = Math.min(nearest, Math.max(1, view.zoom * factor));
  const by = zoom / view.zoom;
  look(x - (x - view.x) * by, y - (y - view.y) * by, zoom);
}

function showCursor() {
  const x = ((cursor[1] + 0.5) / across) * stage.clientWidth * view.zoom + view.x;
  const y = ((cursor[0] + 0.5) / down) * stage.clientHeight * view.zoom + view.y;
  if (x < 0 || y < 0 || x > stage.clientWidth || y > stage.clientHeight)
    look(view.x + stage.clientWidth / 2 - x, view.y + stage.clientHeight / 2 - y, view.zoom);
}

const inStage = (event) => {
  const size = stage.getBoundingClientRect();
  return [event.clientX - size.left, event.clientY - size.top];
};

stage.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
  event.preventDefault();
  const by = Math.exp(-event.deltaY / 300);
  zoomBy(Math.min(FASTEST, Math.max(1 / FASTEST, by)), ...inStage(event));
}, { passive: false });

const held = new Map(); // fingers, or the pressed mouse, by where they are
stage.addEventListener("pointerdown", (event) => {
  held.set(event.pointerId, inStage(event));
  if (stage.classList.contains("zoomed")) stage.setPointerCapture(event.pointerId);
  if (held.size === 1) readAt(event);
});
stage.addEventListener("pointermove", (event) => {
  const before = held.get(event.pointerId), now = inStage(event);
  if (!before) return readAt(event);
  if (view.zoom === 1 && held.size === 1) return readAt(event);
  held.set(event.pointerId, now);
  if (held.size === 1) return look(view.x + now[0] - before[0], view.y + now[1] - before[1], view.zoom);
  const [, other] = [...held].find(([id]) => id !== event.pointerId);
  const apart = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
  zoomBy(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
});
for (const end of ["pointerup", "pointercancel", "pointerleave"])
  stage.addEventListener(end, (event) => held.delete(event.pointerId));

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
stage.addEventListener("keydown", (event) => {
  const zooms = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, "−": 1 / 1.5 };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in zooms) zoomBy(zooms[event.key]);
  else if (event.key in STEPS) walk(STEPS[event.key], event.shiftKey ? MANY : 1);
  else return;
  event.preventDefault();
});

function walk([byRow, byColumn], cells) {
  const [row, column] = cursor ?? [Math.floor(rows / 2) - byRow, Math.floor(columns / 2) - byColumn];
  const within = (value, count) => Math.min(count - 1, Math.max(0, value));
  read(within(row + byRow * cells, rows), within(column + byColumn * cells, columns));
  showCursor();
  find("spoken").textContent = find("value").textContent;
}

// --- legend and tools -----------------------------------------------------------------------------

const buttons = [...document.querySelectorAll("[data-class]")];
function show(button, isShown) {
  button.setAttribute("aria-pressed", isShown);
  shown[button.dataset.class] = isShown;
}
for (const button of buttons)
  button.addEventListener("click", () => {
    show(button, button.getAttribute("aria-pressed") !== "true");
    paint();
  });
for (const [id, isShown] of [["all", true], ["none", false]])
  find(id)?.addEventListener("click", () => {
    for (const button of buttons) show(button, isShown);
    paint();
  });
find("opacity").addEventListener("input", fade);
find("in").addEventListener("click", () => zoomBy(1.5));
find("out").addEventListener("click", () => zoomBy(1 / 1.5));
find("whole").addEventListener("click", () => look(0, 0, 1));
addEventListener("resize", () => look(0, 0, 1));
start().catch(() => {
  find("value").textContent =
    "This browser is too old to draw the classes: they are in the table below and in classes.tif.";
});
