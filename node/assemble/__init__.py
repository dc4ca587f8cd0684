"""Step 2: instances become settled series; pixels become the image that a pipeline sees."""

from node.assemble.image import load_volumes
from node.assemble.settle import Decision, Evidence, decide, to_ask
from node.header import read_header, read_headers

__all__ = ["Decision", "Evidence", "decide", "load_volumes", "read_header", "read_headers", "to_ask"]
