"""Load a raster in QGIS, render it cell by cell to a picture and tell, as JSON, what QGIS made of it.

Run by Debian's Python, which has QGIS: qgis_look.py RASTER PICTURE
"""

import json
import sys

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

raster, picture = sys.argv[1:]
application = QgsApplication([], False)  # held until the end: without it QGIS crashes
application.initQgis()
layer = QgsRasterLayer(raster, "layer")
renderer = layer.renderer()
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setExtent(layer.extent())
settings.setDestinationCrs(layer.crs())
settings.setOutputSize(QSize(layer.width(), layer.height()))
settings.setBackgroundColor(QColor("white"))
settings.setFlag(QgsMapSettings.Antialiasing, False)
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(picture)
paletted = renderer.type() == "paletted"
told = {
    "valid": layer.isValid(),
    "crs": layer.crs().authid(),
    "renderer": renderer.type(),
    "classes": [[item.value, item.label, item.color.name()] for item in renderer.classes()] if paletted else None,
    "bands": [layer.bandName(number + 1) for number in range(layer.bandCount())],
}
sys.stdout.write(json.dumps(told))
