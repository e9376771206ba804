"""Changes of a whole label map, slab by slab, exact: the result does not depend on the slabs."""

from segflow.postprocess.components import Components, components
from segflow.postprocess.rules import Change, changes

__all__ = ["Change", "Components", "changes", "components"]
