"""Step 2: instances become settled series; pixels become the image that a pipeline sees."""

from node.assemble.image import load_volumes
from node.assemble.settle import is_settled
from node.header import read_header, read_headers

__all__ = ["is_settled", "load_volumes", "read_header", "read_headers"]
