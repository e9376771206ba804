#!/usr/bin/env bash
# Makes the files of this folder again from npm; needs node, npm and a network. Run it here, then commit what changed.
set -euo pipefail
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund ol@10.11.0 geotiff@3.0.5 @niivue/niivue@0.69.0 esbuild@0.28.2
cat >map.js <<'JS'
export { default as Map } from "ol/Map.js";
export { default as View } from "ol/View.js";
export { default as TileLayer } from "ol/layer/Tile.js";
export { default as ImageTile } from "ol/source/ImageTile.js";
export { default as TileGrid } from "ol/tilegrid/TileGrid.js";
export { default as Projection } from "ol/proj/Projection.js";
export { default as ScaleLine } from "ol/control/ScaleLine.js";
export { defaults as interactions } from "ol/interaction/defaults.js";
export { getRenderPixel } from "ol/render.js";
export { default as XYZ } from "ol/source/XYZ.js";
export { addCoordinateTransforms, addProjection } from "ol/proj.js";
JS
echo 'export { fromUrl } from "geotiff";' >cog.js
echo 'export { Niivue, NVImage } from "@niivue/niivue";' >volume.js
for part in map:segflowMap cog:segflowCog volume:segflowVolume; do
  name=${part%%:*}
  npx --no-install esbuild "$name.js" --bundle --minify --format=iife --global-name="${part##*:}" --target=es2020 \
    --legal-comments=none --metafile="$name.json" --outfile="$name.min.js" --log-level=error
  gzip -9 --no-name --stdout "$name.min.js" >"$here/$name.js.gz"
done
cat >licences.cjs <<'JS'
const fs = require("fs"), path = require("path");
const found = new Map();
for (const name of ["map", "cog", "volume"])
  for (const [file, part] of Object.entries(Object.values(JSON.parse(fs.readFileSync(name + ".json")).outputs)[0].inputs)) {
    const home = file.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//);
    if (part.bytesInOutput && home) found.set(home[1], [...new Set([...(found.get(home[1]) || []), name + ".js.gz"])]);
  }
// niivue's package is a bundle already: what it is made of, it depends on
const niivue = require("./node_modules/@niivue/niivue/package.json");
for (const name of Object.keys(niivue.dependencies)) found.set("node_modules/" + name, ["volume.js.gz"]);
let text = "What the files of this folder are made of, and under which licences.\n";
for (const [home, where] of [...found].sort()) {
  const about = JSON.parse(fs.readFileSync(path.join(home, "package.json")));
  const file = fs.readdirSync(home).find((name) => /^licen[cs]e/i.test(name));
  text += `\n${"=".repeat(100)}\n${about.name} ${about.version} (${about.license || "see below"}), in ${where.join(", ")}\n\n`;
  text += file ? fs.readFileSync(path.join(home, file), "utf8").trim() + "\n" : `Licence: ${about.license}\n`;
}
fs.writeFileSync(process.argv[2], text.replace(/\r/g, ""));
JS
node licences.cjs "$here/LICENSES.txt"
