"""Pictures of findings: the preview of a job, and what overlays and reports are drawn with.

window    from values to grey
cut       a plane with all that was found on it
draw      such a plane, legends and colour bars as pixels
text      letters
preview   three planes, or a sheet of frames, on one picture
"""

from __future__ import annotations

from node.picture.preview import NOTICE, PLANE_HEIGHT_PX, WIDEST_PLANE_PX, Layer, draw, draw_findings

__all__ = ["NOTICE", "PLANE_HEIGHT_PX", "WIDEST_PLANE_PX", "Layer", "draw", "draw_findings"]
