"""Images are fetched from archives: on request, as they appear there, and as priors.

execute.py    one request: what is lacking comes by C-MOVE, C-GET or WADO-RS
watch.py      studies that appear in an archive
priors.py     earlier studies for cases that lack one
loops.py      these three, again and again
commands.py   ``radnode pull``
"""

from __future__ import annotations

from node.pull.loops import pulling

__all__ = ["pulling"]
