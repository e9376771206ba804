(async (viewer) => {
  "use strict";
  if (!viewer || viewer.data.kind !== "volume") return;
  const { data, state, find, NOTHING } = viewer;
  const volume = data.volume, shape = volume.shape;
  const OFFSET = 352;
  const packed = {}, cells = {};
  try {
    for (const key of Object.keys(volume.volumes)) {
      packed[key] = await viewer.inflate(viewer.bytes(volume.volumes[key]), "gzip");
      cells[key] = packed[key].subarray(OFFSET);
    }
  } catch (error) {
    viewer.failed(error);
    return;
  }
  viewer.ready();
  const at = [...volume.at];
  const strides = [1, shape[0], shape[0] * shape[1]];
  // Across and down of each picture, as a radiologist hangs them: right on the left, superior or anterior up.
  const planes = [
    { axis: 2, across: 0, down: 1, name: "Axial" },
    { axis: 1, across: 0, down: 2, name: "Coronal" },
    { axis: 0, across: 1, down: 2, name: "Sagittal" },
  ];
  const axes = "xyz";
  const place = (plane, column, row) => {
    const voxel = [...at];
    voxel[plane.across] = shape[plane.across] - 1 - column;
    voxel[plane.down] = shape[plane.down] - 1 - row;
    return voxel;
  };
  const index = (voxel) => voxel.reduce((sum, value, axis) => sum + value * strides[axis], 0);
  const draw = (plane) => {
    const { canvas } = plane, [columns, rows] = [canvas.width, canvas.height];
    const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
    const out = image.data, paints = { left: viewer.painter(state.left), right: viewer.painter(state.right) };
    const share = state.opacity / 100, cut = (columns * state.line) / 100;
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        const where = index(place(plane, x, y)), to = (y * columns + x) * 4;
        const colour = paints[x + 0.5 < cut ? "left" : "right"](cells, where, x, y), grey = cells.i[where];
        const part = colour >>> 24 ? share : 0;
        out[to] = grey + ((colour & 255) - grey) * part;
        out[to + 1] = grey + (((colour >> 8) & 255) - grey) * part;
        out[to + 2] = grey + (((colour >> 16) & 255) - grey) * part;
        out[to + 3] = 255;
      }
    context.putImageData(image, 0, 0);
    plane.slider.value = at[plane.axis];
    const said = at[plane.axis] * volume.steps[plane.axis];
    plane.output.textContent = `${axes[plane.axis]} ${said}`;
    plane.slider.setAttribute("aria-valuetext", `slice ${said} of ${data.shape[plane.axis] - 1}`);
    plane.cross.style.left = `${((shape[plane.across] - at[plane.across] - 0.5) / shape[plane.across]) * 100}%`;
    plane.cross.style.top = `${((shape[plane.down] - at[plane.down] - 0.5) / shape[plane.down]) * 100}%`;
  };
  let waiting = 0;
  const drawAll = () => {
    if (waiting) return;
    waiting = requestAnimationFrame(() => {
      waiting = 0;
      planes.forEach(draw);
      viewer.root.dataset.ready = "true";
    });
  };
  const look = () => {
    const place_ = at.map((value, axis) => `${axes[axis]} ${value * volume.steps[axis]}`).join(", ");
    viewer.tell(`${place_}: ${viewer.said(cells, index(at))}`);
    drawAll();
  };
  planes.forEach((plane, number) => {
    const figure = viewer.root.querySelectorAll("[data-plane]")[number];
    Object.assign(plane, {
      canvas: figure.querySelector("canvas"),
      slider: figure.querySelector("input"),
      output: figure.querySelector("output"),
      cross: figure.querySelector(".cross"),
    });
    const { canvas, slider } = plane;
    canvas.width = shape[plane.across];
    canvas.height = shape[plane.down];
    const sides = [plane.across, plane.down].map((axis) => shape[axis] * volume.spacing[axis]);
    figure.style.setProperty("--ratio", sides[0] / sides[1]);
    slider.max = shape[plane.axis] - 1;
    slider.addEventListener("input", () => {
      at[plane.axis] = Number(slider.value);
      look();
    });
    const step = (by) => {
      slider.value = Number(slider.value) + by;
      slider.dispatchEvent(new Event("input"));
    };
    const pane = canvas.parentElement;
    pane.addEventListener("wheel", (event) => {
      if (document.activeElement !== pane) return;
      event.preventDefault();
      step(Math.sign(event.deltaY));
    }, { passive: false });
    pane.addEventListener("keydown", (event) => {
      const by = { ArrowUp: 1, PageUp: 10, ArrowDown: -1, PageDown: -10 }[event.key];
      if (!by) return;
      event.preventDefault();
      step(by);
    });
    pane.addEventListener("click", (event) => {
      if (event.target.classList.contains("line")) return;
      const frame = canvas.getBoundingClientRect();
      const column = Math.floor(((event.clientX - frame.left) / frame.width) * canvas.width);
      const row = Math.floor(((event.clientY - frame.top) / frame.height) * canvas.height);
      const voxel = place(plane, Math.min(column, canvas.width - 1), Math.min(row, canvas.height - 1));
      voxel.forEach((value, axis) => { at[axis] = Math.max(0, value); });
      look();
    });
    viewer.draggable(pane);
  });
  viewer.go = (voxel) => {
    voxel.forEach((value, axis) => { at[axis] = Math.min(shape[axis] - 1, Math.floor(value / volume.steps[axis])); });
    look();
  };
  look();

  // In three dimensions, when asked for: NiiVue is large, and needs WebGL 2.
  const button = find("solid"), solid = find("solid-pane"), note = find("solid-note");
  let niivue = null, shownVolume = null, byId = false;
  const lookup = () => {
    const entries = [[0, [0, 0, 0], 0, "none"]];
    data.classes.forEach((item, number) => {
      const value = byId ? item.id : number + 1;
      if (value) entries.push([value, viewer.colours[number], state.hidden.has(number) ? 0 : 255, item.name]);
    });
    entries.sort((one, two) => one[0] - two[0]);
    return {
      I: entries.map((item) => item[0]),
      R: entries.map((item) => item[1][0]),
      G: entries.map((item) => item[1][1]),
      B: entries.map((item) => item[1][2]),
      A: entries.map((item) => item[2]),
      labels: entries.map((item) => item[3]),
    };
  };
  const labelFile = async () => {
    if (viewer.served && viewer.served.labels) {
      byId = true;
      const answer = await fetch(viewer.served.labels);
      return answer.arrayBuffer();
    }
    const file = packed.l.slice();
    for (let i = OFFSET; i < file.length; i++) file[i] = file[i] === NOTHING ? 0 : file[i] + 1;
    return file.buffer;
  };
  const start = async () => {
    await viewer.library("volume");
    const { Niivue, NVImage } = segflowVolume;
    const canvas = solid.querySelector("canvas");
    niivue = new Niivue({
      backColor: [0, 0, 0, 1], isOrientCube: false, show3Dcrosshair: false, loadingText: "", logLevel: "error",
      isOrientationTextVisible: false,
    });
    await niivue.attachToCanvas(canvas);
    if (!niivue.gl) throw new Error("this browser has no WebGL 2");
    shownVolume = await NVImage.new(await labelFile(), byId ? "labels.nii.gz" : "labels.nii", "gray", 1);
    shownVolume.setColormapLabel(lookup());
    niivue.addVolume(shownVolume);
    niivue.setSliceType(niivue.sliceTypeRender);
    await niivue.setVolumeRenderIllumination(0.6);
    niivue.setRenderAzimuthElevation(120, 15);
    niivue.updateGLVolume();
    viewer.root.dataset.solid = "true";
    if (byId) viewer.root.dataset.full = "true";
  };
  button.addEventListener("click", async () => {
    const on = solid.hidden;
    solid.hidden = !on;
    button.setAttribute("aria-pressed", String(on));
    if (!on || niivue) return;
    note.textContent = "Loading…";
    try {
      await start();
      note.textContent = "Drag to turn, wheel to zoom.";
    } catch (error) {
      note.textContent = `Not shown in 3-D: ${error.message || error}. The slices beside are complete.`;
    }
  });
  viewer.watch((what) => {
    drawAll();
    if (what === "classes" && shownVolume) {
      shownVolume.setColormapLabel(lookup());
      niivue.updateGLVolume();
    }
  });
})(segflowViewer);
