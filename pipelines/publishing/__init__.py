"""From staged labels to files, exports, pictures and reports, here and elsewhere."""
