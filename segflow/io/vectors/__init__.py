"""Label maps as polygons, strip by strip: pure functions in pixel coordinates first, then formats."""
