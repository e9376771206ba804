"""The recipe: the one schema of what runs on what, and how it is read. Imports no torch."""

from segflow.masking import open_data, open_text
from segflow.models.choice import ModelChoice
from segflow.recipe.augment import Augment
from segflow.recipe.outputs import DicomSeg, Outputs
from segflow.recipe.postprocess import Postprocess
from segflow.recipe.publish import Publish
from segflow.recipe.read import parse_recipe, read_recipe
from segflow.recipe.report import Report
from segflow.recipe.run import Compute, Inputs, References, Tiling
from segflow.recipe.schema import Recipe
from segflow.recipe.service import Service
from segflow.recipe.text import open_recipe, recipe_text
from segflow.recipe.train import LossName, Train, Validation

__all__ = [
    "Augment",
    "Compute",
    "DicomSeg",
    "Inputs",
    "LossName",
    "ModelChoice",
    "Outputs",
    "Postprocess",
    "Publish",
    "Recipe",
    "References",
    "Report",
    "Service",
    "Tiling",
    "Train",
    "Validation",
    "open_data",
    "open_recipe",
    "open_text",
    "parse_recipe",
    "read_recipe",
    "recipe_text",
]
