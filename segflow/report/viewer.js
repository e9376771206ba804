const segflowViewer = (() => {
  "use strict";
  const root = document.getElementById("viewer");
  if (!root || typeof DecompressionStream === "undefined") return null;
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const NOTHING = 255;
  const watchers = [];
  const state = { left: find("left").value, right: find("right").value, line: 50, opacity: 80, hidden: new Set() };

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const inflate = async (packed, kind) => {
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream(kind));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const library = async (name) => {
    const code = await inflate(bytes(document.getElementById(`vendor-${name}`).textContent), "gzip");
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(code);
    document.head.append(script);
  };

  // Colours, as little-endian ABGR.
  const packed = ([r, g, b], alpha = 255) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  const colours = data.classes.map((item) => rgb(item.colour));
  const ramp = (() => {
    const stops = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
    return Uint32Array.from({ length: 256 }, (_, value) => {
      const at = (value / 255) * (stops.length - 1);
      const low = Math.min(Math.floor(at), stops.length - 2);
      return packed(stops[low].map((part, i) => Math.round(part + (stops[low + 1][i] - part) * (at - low))));
    });
  })();
  const table = () => {
    const made = new Uint32Array(256);
    colours.forEach((colour, place) => {
      if (!state.hidden.has(place)) made[place] = packed(colour);
    });
    return made;
  };
  const wrong = [packed([214, 40, 57]), packed([255, 190, 196])];

  /** Colour of one cell: `cells` has arrays l (labels), r (reference), c (confidence); 0 is transparent. */
  const painter = (mode) => {
    const shown = table();
    if (mode === "labels") return (cells, at) => shown[cells.l[at]];
    if (mode === "reference") return (cells, at) => shown[cells.r[at]];
    if (mode === "confidence") return (cells, at) => (cells.l[at] === NOTHING ? 0 : ramp[cells.c[at]]);
    if (mode === "difference")
      return (cells, at, x, y) => {
        const made = cells.l[at], truth = cells.r[at];
        return made === NOTHING || truth === NOTHING || made === truth ? 0 : wrong[(x + y) & 3 ? 0 : 1];
      };
    return () => 0;
  };
  const said = (cells, at) => {
    const name = (place) => (place === NOTHING || !data.classes[place] ? "none" : data.classes[place].name);
    const parts = [`${data.names[0]}: ${name(cells.l[at])}`];
    if (cells.r) parts.push(`${data.names[1]}: ${name(cells.r[at])}`);
    if (cells.c && cells.l[at] !== NOTHING) parts.push(`Confidence: ${Math.round((cells.c[at] / 255) * 100)} %`);
    return parts.join(" · ");
  };

  const changed = (what) => watchers.forEach((each) => each(what));
  for (const name of ["left", "right"])
    find(name).addEventListener("change", (event) => {
      state[name] = event.target.value;
      changed(name);
    });
  for (const name of ["line", "opacity"]) {
    const input = find(name);
    const apply = () => {
      state[name] = Number(input.value);
      input.setAttribute("aria-valuetext", `${state[name]} %`);
      root.style.setProperty(`--${name}`, `${state[name]}%`);
      changed(name);
    };
    input.addEventListener("input", apply);
    input.value = state[name];
    root.style.setProperty(`--${name}`, `${state[name]}%`);
  }
  root.querySelectorAll("[data-class]").forEach((box) => {
    const apply = () => state.hidden[box.checked ? "delete" : "add"](Number(box.dataset.class));
    apply();
    box.addEventListener("change", () => {
      apply();
      changed("classes");
    });
  });
  find("all").addEventListener("click", () => {
    const boxes = [...root.querySelectorAll("[data-class]")];
    const on = !boxes.every((box) => box.checked);
    boxes.forEach((box) => {
      box.checked = on;
      state.hidden[on ? "delete" : "add"](Number(box.dataset.class));
    });
    changed("classes");
  });

  // Okabe and Ito's colours, which colour-blind readers tell apart, in the place of the card's.
  const safe = ["E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7", "999999"];
  const own = data.classes.map((item) => item.colour);
  if (find("safe"))
    find("safe").addEventListener("click", (event) => {
      const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
      event.currentTarget.setAttribute("aria-pressed", String(on));
      own.forEach((colour, place) => {
        const shown = on ? `#${safe[place]}` : colour;
        colours[place] = rgb(shown);
        root.querySelector(`[data-class="${place}"] ~ .swatch rect`).setAttribute("fill", shown);
      });
      changed("classes");
    });

  /** Let a line be dragged over a pane. */
  const draggable = (pane) => {
    const grip = pane.querySelector(".line");
    const input = find("line");
    const move = (event) => {
      const frame = pane.getBoundingClientRect();
      const part = ((event.clientX - frame.left) / frame.width) * 100;
      input.value = Math.max(0, Math.min(100, part));
      input.dispatchEvent(new Event("input"));
    };
    grip.addEventListener("pointerdown", (event) => {
      grip.setPointerCapture(event.pointerId);
      event.preventDefault();
      grip.addEventListener("pointermove", move);
    });
    for (const end of ["pointerup", "pointercancel"])
      grip.addEventListener(end, () => grip.removeEventListener("pointermove", move));
  };

  const viewer = {
    root, data, state, find, bytes, inflate, library, painter, said, colours, draggable, NOTHING,
    watch: (each) => watchers.push(each),
    tell: (text) => { find("readout").textContent = text; },
    served: JSON.parse(document.documentElement.dataset.served || "null"),
    go: () => {},
    ready: () => {
      root.hidden = false;
      document.documentElement.classList.add("live");
    },
    failed: (error) => {
      root.hidden = true;
      document.documentElement.classList.remove("live");
      console.warn(`The viewer could not start: ${error}`);
    },
  };
  document.querySelectorAll("a[data-at]").forEach((link) =>
    link.addEventListener("click", () => viewer.go(JSON.parse(link.dataset.at)))
  );
  return viewer;
})();
