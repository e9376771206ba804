#!/usr/bin/env bash
# Installs what the tests marked `system` need, unless it is there: Debian or Ubuntu, as root or with sudo.
set -euo pipefail
packages=(
  chromium chromium-driver             # the report, really clicked
  dcm2niix dcmtk dicom3tools           # DICOM in and out
  orthanc orthanc-dicomweb             # an archive
  gdal-bin python3-qgis qgis-providers # GIS
  postgresql postgresql-postgis        # polygons in a database
  docker-compose systemd               # check their files
  strace                               # whom a process speaks with
)
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update --quiet
"${as_root[@]}" apt-get install --yes --quiet --no-install-recommends "${missing[@]}"
