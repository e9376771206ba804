"""A scene's plan: how it is cut, what it takes, what would fit."""
