"""People and machines look: DICOMweb over what the node holds, and STOW-RS as a way in.

server.py        the HTTP door (connection.py: deadlines)
app.py           the table of all resources, and what surrounds each request
auth.py          who may ask
stow.py          what is brought
origin.py        what is given from: index.py (with kept.py, members.py), files, and workers that decode
query.py         QIDO-RS: asked.py takes a query apart, search.py and matching.py answer it (rows.py)
wado.py          WADO-RS: instances; metadata.py, frames.py, rendered.py
capabilities.py  what is served, told by itself; how the node is
media.py         which media type is wanted (answer.py, multipart.py: how it is written;
                 models.py, dicom_json.py, native.py: of data sets)
"""

from __future__ import annotations

from node.show.app import make_app
from node.show.origin import Origin
from node.show.resource import Shown
from node.show.server import WebDoor

__all__ = ["Origin", "Shown", "WebDoor", "make_app"]
