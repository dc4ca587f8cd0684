"""The report as an Encapsulated PDF (PS3.3 A.45.1), for readers that print or file documents.

The page itself names no patient: the header of the object does, as of every result.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from node.encode.common import new_result
from node.encode.items import coded, instances_of
from node.encode.material import Material, NotApplicable
from node.encode.render.document import report_pdf
from node.encode.render.origins import add_siblings, source_instances
from node.encode.render.source import SourceFacts, read_source
from node.encode.repair import cut
from pipelines.contract import Code

TITLE = Code("18748-4", "LN", "Diagnostic Imaging Report")
MIME_TYPE = "application/pdf"


def make_pdf(material: Material) -> Iterator[Dataset]:
    """Yield the report.

    Raises
    ------
    NotApplicable
        It is larger than an object may be.
    """
    source = read_source(material.volume, material.header.body_part)
    dataset = new_result(material, "pdf", sop_class=EncapsulatedPDFStorage, modality="DOC")
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = None
    dataset.BurnedInAnnotation = "YES" if source.burned_in else "NO"
    if source.recognizable is not None:
        dataset.RecognizableVisualFeatures = "YES" if source.recognizable else "NO"
    used = dict.fromkeys(one for volume in material.volumes.values() for one in instances_of(volume))
    dataset.SourceInstanceSequence = source_instances(used)
    add_siblings(dataset, material, series=False)
    dataset.DocumentTitle = document_title(material)
    dataset.ConceptNameCodeSequence = [coded(TITLE)]
    dataset.MIMETypeOfEncapsulatedDocument = MIME_TYPE
    content = content_of(material, source)
    if len(content) > material.job.presentation.max_object_mb * 1e6:
        raise NotApplicable("No PDF report was made: it needs more than max_object_mb.")
    dataset.EncapsulatedDocumentLength = len(content)
    dataset.add_new("EncapsulatedDocument", "OB", content + b"\0" * (len(content) % 2))
    yield dataset


def content_of(material: Material, source: SourceFacts) -> bytes:
    """Return the document alone."""
    return report_pdf(material, source.window, title=document_title(material))


def document_title(material: Material) -> str:
    """Return what the document is called: the algorithm and that it is for research."""
    ending = " (research only)"
    return cut(material.job.card.title, 64 - len(ending)) + ending
