"""Drafts of recipes for a model and an input."""
