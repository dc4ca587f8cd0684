"""People and machines look: DICOMweb over what the node holds, and STOW-RS as a way in.

server.py        the HTTP door (connection.py: deadlines)
app.py           the table of all resources, and what surrounds each request
auth.py          who may ask
stow.py          what is brought
capabilities.py  what is served, told by itself; how the node is
media.py         which media type is wanted (answer.py, multipart.py, native.py: how it is written)
"""

from __future__ import annotations

from node.show.app import make_app
from node.show.resource import Shown
from node.show.server import WebDoor

__all__ = ["Shown", "WebDoor", "make_app"]
