"""How far a network sees: what a cut at a patch's edge changes, and how deep into the patch.

Four questions, a module each: `reach` traces which cells can depend on what lies beyond a cut at all, and which module
sees the whole patch; `gradient` tells within which radius nearly all of the influence lies; `cuts` measures what a cut
really changes, by the distance from it; `probes` makes the patches that this is measured on. `field` puts them
together, once for a model.
"""
