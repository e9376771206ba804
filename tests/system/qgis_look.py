"""Load a raster or polygons in QGIS, render them and tell, as JSON, what QGIS made of it.

A cell of a raster is a pixel; of polygons in metres, a metre is 16 pixels.

Run by Debian's Python, which has QGIS: qgis_look.py FILE PICTURE
"""

import json
import sys

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

path, picture = sys.argv[1:]
application = QgsApplication([], False)  # held until the end: without it QGIS crashes
application.initQgis()
raster = path.endswith((".tif", ".vrt"))
layer = QgsRasterLayer(path, "layer") if raster else QgsVectorLayer(path, "layer", "ogr")
renderer, extent = layer.renderer(), layer.extent()
size = (layer.width(), layer.height()) if raster else (round(extent.width() * 16), round(extent.height() * 16))
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setExtent(extent)
settings.setDestinationCrs(layer.crs())
settings.setOutputSize(QSize(max(size[0], 1), max(size[1], 1)))  # a CRS in degrees gives none
settings.setBackgroundColor(QColor("white"))
settings.setFlag(QgsMapSettings.Antialiasing, False)
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(picture)
told = {"valid": layer.isValid(), "crs": layer.crs().authid(), "renderer": renderer.type(), "classes": None}
if renderer.type() == "paletted":
    told["classes"] = [[item.value, item.label, item.color.name()] for item in renderer.classes()]
if renderer.type() == "categorizedSymbol":
    told["classes"] = [[item.value(), item.label(), item.symbol().color().name()] for item in renderer.categories()]
if raster:
    told["bands"] = [layer.bandName(number + 1) for number in range(layer.bandCount())]
sys.stdout.write(json.dumps(told))
