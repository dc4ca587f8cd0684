"""Any MONAI bundle as a pipeline: the bundle's folder and a card, no further code.

The bundle's own inference configuration is parsed by MONAI and stays as its author wrote it, with
two exceptions: where it would load an image from a file, the node's image is handed over, and
where it would save the result, the result is caught. So pre- and post-processing run in the
author's order on a real MetaTensor, and the author's Invertd finds its way back to the source grid.
Dataset, loader, evaluator and handlers of the bundle are never built.

A configuration may contain expressions and a bundle may contain scripts: a bundle is a program. It
runs only when the digest of its folder was approved (`Card.digest`), and weights are read as data
(``weights_only``), never as pickled code.

terms      the ``[bundle]`` table of a card
files      the bundle's files, held against it
config     the configuration, with stand-ins where it loads and saves (`handover`)
weights    what the network has learnt
inputs     a case becomes the items that the bundle's transforms take, one or several
run        an item goes through transforms, inferer and network
device     all of it on the node's device; on processors what is slow there takes `shortcuts`
outputs    what comes out becomes findings: outlines, scores, boxes, points, images, instances
explain    a map of what an answer rests on
analysis   inputs, run, outputs and explain, in this order
look       the first of it for `radnode pipelines add`, before a network is built
pipeline   all of it behind the four moments of `pipelines.contract.Pipeline`
"""

from __future__ import annotations

from pipelines.bundle.pipeline import BundlePipeline

__all__ = ["BundlePipeline"]
