"""Random changes of training patches, decided by one numpy generator: first of place, then of values.

A `Warp` is drawn before anything is read, so that only the window that it needs is read from a scene however large; one
interpolation lays the patch over that window; then values are changed. So the network sees cells interpolated once.

MONAI's noise is used. Ours, and why: flips, turns and zoom (MONAI's need the whole image, and interpolate each time);
elastic displacement (MONAI's has no bound, and can fold); Gaussian blur (MONAI's darkens the edges of a patch, and
takes four times as long as scipy's in 3-D); contrast curve (the scene's statistics must follow it; MONAI's know the
patch alone); bias field (MONAI's polynomials are of another strength); colour and band changes (MONAI has none).
"""

from segflow.training.augment.place import Warp, draw_warp, resample
from segflow.training.augment.values import blur, change_values, draw_blur, soften_labels

__all__ = ["Warp", "blur", "change_values", "draw_blur", "draw_warp", "resample", "soften_labels"]
