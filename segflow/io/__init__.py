"""Scenes in, staging store, label maps out: the only home of rasterio, nibabel and Zarr. Each format is a module."""
