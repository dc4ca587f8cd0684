"""The science: arrays in, findings out. No sockets, no DICOM; `pipelines.contract` is the border.

To add a pipeline, make a folder here with a ``card.toml``: its name, what it accepts, the segments
it outlines with their codes, who answers for it. `pipelines.contract.Card` explains every key.
Then either

* put a MONAI bundle into the folder and say ``use = "pipelines.bundle:BundlePipeline"``. No code:
  ``[bundle]`` names the weights, their SHA-256 and the kind of output (`pipelines.bundle.terms.Terms`), and
  ``[[bundle.expects]]`` states what an image must look like (`pipelines.bundle.expect`).
  ``phantom_inserts`` is an example; or
* write a class with ``load``, ``check`` and ``analyze`` (`pipelines.contract.Pipeline`) and name it
  in ``use``. ``lung_density`` is an example.

For a bundle from outside ``radnode pipelines add`` drafts the card (`pipelines.draft`) and runs it once on a
simulated case (`pipelines.trial`).

What helps: `pipelines.check` refuses unfit inputs with a reason, `pipelines.geometry` takes an image
to MONAI and back, `pipelines.measure` takes numbers from a mask, `pipelines.codes` names concepts.

``tests/pipelines/test_contract.py`` finds the card by itself and holds the pipeline to the contract:
same grid, same answer twice, every label described, and no failure other than `InputRefused`. Give
it an example case there. A site approves the folder's digest before a node runs it; any change of
any file in the folder asks for a new approval, so bump ``version`` too.
"""
