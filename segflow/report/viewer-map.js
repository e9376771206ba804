(async (viewer) => {
  "use strict";
  if (!viewer || viewer.data.kind !== "raster") return;
  const { data, state, find, NOTHING } = viewer;
  const map = data.map, size = map.tile;
  try {
    await viewer.library("map");
  } catch (error) {
    viewer.failed(error);
    return;
  }
  const ol = segflowMap;
  viewer.ready();
  const [height, width] = data.shape;
  const extent = [0, -height, width, 0];
  const around = [-width * 0.5, -height * 1.5, width * 1.5, height * 0.5];
  const projection = new ol.Projection({
    code: "cells", units: "pixels", extent: around, metersPerUnit: data.metres || undefined,
  });
  const resolutions = (levels, finest) => Array.from({ length: levels }, (_, z) => finest * 2 ** (levels - 1 - z));
  const grid = (levels, finest) =>
    new ol.TileGrid({ origin: [0, 0], extent, resolutions: resolutions(levels, finest), tileSize: size });

  // What a page holds: tiles of classes, inflated once.
  const cells = new Map();
  const held = (z, x, y) => {
    const key = `${z}/${x}/${y}`;
    if (!cells.has(key)) cells.set(key, unpack(map.tiles[key], z, x, y));
    return cells.get(key);
  };
  const extents = (z, x, y) => {
    const scale = 2 ** (map.levels - 1 - z);
    const across = Math.ceil(map.width / scale), down = Math.ceil(map.height / scale);
    return [Math.min(size, across - x * size), Math.min(size, down - y * size)];
  };
  const unpack = async (tile, z, x, y) => {
    if (!tile) return null;
    const [columns, rows] = extents(z, x, y);
    const layers = { columns, rows };
    for (const key of ["l", "r", "c"])
      if (tile[key]) layers[key] = await viewer.inflate(viewer.bytes(tile[key]), "deflate");
    return layers;
  };
  const empty = () => Object.assign(document.createElement("canvas"), { width: size, height: size });
  const painted = (mode, tile) => {
    const canvas = empty();
    if (!tile) return canvas;
    const paint = viewer.painter(mode), context = canvas.getContext("2d");
    const image = context.createImageData(tile.columns, tile.rows), out = new Uint32Array(image.data.buffer);
    for (let y = 0, at = 0; y < tile.rows; y++) for (let x = 0; x < tile.columns; x++, at++) out[at] = paint(tile, at, x, y);
    context.putImageData(image, 0, 0);
    return canvas;
  };
  const photograph = async (z, x, y) => {
    const canvas = empty(), tile = map.tiles[`${z}/${x}/${y}`];
    if (!tile) return canvas;
    canvas.getContext("2d").drawImage(await createImageBitmap(new Blob([viewer.bytes(tile.i)])), 0, 0);
    return canvas;
  };
  const source = (tileGrid, loader) => {
    const made = new ol.ImageTile({ loader, tileGrid, projection, interpolate: false, transition: 0, wrapX: false });
    made.changed(); // a layer takes revision 0 for "never drawn", and would miss the first refresh
    return made;
  };
  const embedded = grid(map.levels, map.step);
  const overlay = (side) => {
    const layer = new ol.TileLayer({
      source: source(embedded, async (z, x, y) => painted(state[side], await held(z, x, y))),
    });
    layer.on("prerender", (event) => {
      const [across, down] = event.frameState.size, at = (across * state.line) / 100;
      const corner = (x, y) => ol.getRenderPixel(event, [x, y]);
      const [from, to] = side === "left" ? [0, at] : [at, across];
      const [a, b] = [corner(from, 0), corner(to, down)];
      event.context.save();
      event.context.beginPath();
      event.context.rect(a[0], a[1], b[0] - a[0], b[1] - a[1]);
      event.context.clip();
    });
    layer.on("postrender", (event) => event.context.restore());
    return layer;
  };
  const sides = { left: overlay("left"), right: overlay("right") };
  const layers = [new ol.TileLayer({ source: source(embedded, photograph) }), sides.left, sides.right];
  if (data.basemap) {
    // A page may ask others for pictures only by option, and then only when its reader wants it.
    const [a, b, c, d, e, f] = data.basemap.to, det = a * e - b * d;
    ol.addProjection(projection);
    ol.addCoordinateTransforms(
      projection,
      "EPSG:3857",
      ([x, y]) => [a * x - b * y + c, d * x - e * y + f],
      ([u, v]) => [(e * (u - c) - b * (v - f)) / det, -(a * (v - f) - d * (u - c)) / det]
    );
    const below = new ol.TileLayer({ visible: false });
    layers.unshift(below);
    find("basemap").addEventListener("change", (event) => {
      if (!below.getSource()) below.setSource(new ol.XYZ({ url: data.basemap.url, crossOrigin: "anonymous" }));
      below.setVisible(event.target.checked);
    });
  }
  const pane = find("map");
  const view = new ol.View({
    projection,
    extent: around,
    center: [width / 2, -height / 2],
    minResolution: (viewer.served ? 1 : map.step) / 12,
    showFullExtent: true,
    smoothExtentConstraint: false,
    constrainRotation: 1,
    enableRotation: false,
  });
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const olMap = new ol.Map({
    target: pane,
    layers,
    view,
    controls: data.metres ? [new ol.ScaleLine()] : [],
    interactions: ol.interactions({ onFocusOnly: false, altShiftDragRotate: false, pinchRotate: false }),
  });
  const whole = () => view.fit(extent, { padding: [4, 4, 4, 4] });
  whole();
  find("whole").addEventListener("click", whole);
  for (const [name, by] of [["in", 1], ["out", -1]])
    find(name).addEventListener("click", () => view.animate({ zoom: view.getZoom() + by, duration: still ? 0 : 150 }));
  viewer.go = ([left, top, right, bottom]) => {
    view.fit([left, -bottom, right, -top], { padding: [40, 40, 40, 40] });
    pane.focus({ preventScroll: true });
  };
  viewer.draggable(pane.parentElement);

  const apply = (what) => {
    if (what === "opacity" || what === "start") for (const layer of Object.values(sides)) layer.setOpacity(state.opacity / 100);
    if (what === "classes") for (const layer of Object.values(sides)) layer.getSource().refresh();
    if (what in sides) (refit(what), sides[what].getSource().refresh());
    olMap.render();
  };
  let refit = () => {};
  viewer.watch(apply);
  apply("start");

  const read = async ([x, y]) => {
    const column = Math.floor(x), row = Math.floor(-y);
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    const [c, r] = [column, row].map((value) => Math.floor(value / map.step));
    const tile = await held(map.levels - 1, Math.floor(c / size), Math.floor(r / size));
    const [i, j] = [c % size, r % size];
    if (tile && i < tile.columns && j < tile.rows)
      viewer.tell(`column ${column}, row ${row}: ${viewer.said(tile, j * tile.columns + i)}`);
  };
  olMap.on("pointermove", (event) => event.dragging || read(event.coordinate));
  olMap.on("singleclick", (event) => read(event.coordinate));
  olMap.on("moveend", () => document.activeElement === pane && read(view.getCenter()));

  // Served by `segflow view`: the labels themselves, by range requests.
  if (viewer.served && viewer.served.labels && window.segflowCog) {
    const file = await segflowCog.fromUrl(viewer.served.labels, { allowFullFile: true });
    const images = [];
    for (let i = 0; i < (await file.getImageCount()); i++) images.push(await file.getImage(i));
    const places = new Uint8Array(256).fill(NOTHING);
    data.classes.forEach((item, place) => { if (item.id < 256) places[item.id] = place; });
    const full = new Map();
    const wanted = async (z, x, y) => {
      const key = `${z}/${x}/${y}`;
      if (!full.has(key)) full.set(key, fetched(images[images.length - 1 - z], x, y));
      if (full.size > 400) full.delete(full.keys().next().value);
      return full.get(key) || fetched(images[images.length - 1 - z], x, y);
    };
    const fetched = async (image, x, y) => {
      const [columns, rows] = [image.getWidth() - x * size, image.getHeight() - y * size].map((n) => Math.min(size, n));
      if (columns < 1 || rows < 1) return null;
      const window_ = [x * size, y * size, x * size + columns, y * size + rows];
      const [ids] = await image.readRasters({ window: window_ });
      return { columns, rows, l: Uint8Array.from(ids, (id) => places[id]) };
    };
    const sources = Object.fromEntries(Object.keys(sides).map((side) => [side, {
      full: source(grid(images.length, 1), async (z, x, y) => painted("labels", await wanted(z, x, y))),
      held: sides[side].getSource(),
    }]));
    refit = (side) => sides[side].setSource(sources[side][state[side] === "labels" ? "full" : "held"]);
    Object.keys(sides).forEach(refit);
    find("readout").textContent = `Labels at full resolution from ${viewer.served.labels}`;
    viewer.root.dataset.full = "true";
  }
  olMap.once("rendercomplete", () => { viewer.root.dataset.ready = "true"; });
  olMap.render();
})(segflowViewer);
