"""The networks themselves, by their papers; `segflow.models.registry` has them by name."""
