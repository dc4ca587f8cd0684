"""Step 2: instances become settled series; pixels become the image that a pipeline sees."""

from node.assemble.header import read_header, read_headers
from node.assemble.image import load_volumes
from node.assemble.settle import is_settled

__all__ = ["is_settled", "load_volumes", "read_header", "read_headers"]
