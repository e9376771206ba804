"""What is made of a published label map: one module a format, each an `Exporter`.

An exporter reads published files only, in windows, so that it needs neither the network nor the staged chunks: what
failed, or was asked for later, is made from a finished scene.
"""

from segflow.io.exports.protocol import Exporter, Published

__all__ = ["Exporter", "Published"]
