"""Where patches lie and how their overlaps are summed: numpy only, any number of axes, no file and no network."""

from tiling.axismap import AxisMap, Filter, PlacedMap
from tiling.blend import Accumulator, NumpyBand, Store, scale_of
from tiling.block import Frame, Layout, cut, rows_of, share
from tiling.box import Box
from tiling.budget import Demand, Disk, Extra, Network, Surroundings, demand, disk, strip_rows
from tiling.decide import Decision, argmax, over, to_byte, write_regions
from tiling.lattice import Axis, Lattice, Rule, axis_of, step_of
from tiling.overlap import blended_change, least_overlap, least_work
from tiling.weights import WeightCache, patch_weight
from tiling.window import PROFILES, Profile, window

__all__ = [
    "PROFILES",
    "Accumulator",
    "Axis",
    "AxisMap",
    "Box",
    "Decision",
    "Demand",
    "Disk",
    "Extra",
    "Filter",
    "Frame",
    "Lattice",
    "Layout",
    "Network",
    "NumpyBand",
    "PlacedMap",
    "Profile",
    "Rule",
    "Store",
    "Surroundings",
    "WeightCache",
    "argmax",
    "axis_of",
    "blended_change",
    "cut",
    "demand",
    "disk",
    "least_overlap",
    "least_work",
    "over",
    "patch_weight",
    "rows_of",
    "scale_of",
    "share",
    "step_of",
    "strip_rows",
    "to_byte",
    "window",
    "write_regions",
]
