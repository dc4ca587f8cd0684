"""What renderings for people must be: overlay pictures and the report as a PDF.

Both are looked at by readers who see nothing else of a result, so above all: the notice is there to
be seen, on every frame and every page.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, MultiFrameTrueColorSecondaryCaptureImageStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.items import code_of, place_of, plane_places, used_instances
from node.encode.lint.grid import POSITION_MM, orientation_faults
from node.encode.material import Material
from node.encode.render.frames import BAND_PX, PANEL_PX, band
from node.encode.render.pdf import MIME_TYPE, TITLE, document_title
from node.encode.render.source import read_source
from node.model import ResultObject
from node.picture.cut import regions_at

_STREAM = re.compile(rb"/Length (\d+)\s*>>\s*stream\r?\n")
_PAGE = re.compile(rb"/Type\s*/Page\b")
_STREAM_MAX = 64_000_000  #: bytes that one page may unpack to


def secondary_capture_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of an overlay."""
    volume, count = material.volume, int(dataset.get("NumberOfFrames") or 0)
    if dataset.SOPClassUID != MultiFrameTrueColorSecondaryCaptureImageStorage or dataset.Modality != "OT":
        yield "the class or modality is not Multi-frame True Color Secondary Capture"
    kind = (dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.BitsAllocated)
    if (*kind, dataset.PlanarConfiguration) != (3, "RGB", 8, 0):
        yield "the pixels are not RGB of 8 bits, colour by pixel"
    if RESEARCH_NOTICE not in str(dataset.get("DerivationDescription", "")):
        yield "Derivation Description does not say that it is for research"
    yield from _common_faults(dataset, result, material)
    known = plane_places(volume)
    shown = [known.get(place_of(image)) for image in dataset.get("SourceImageSequence") or ()]
    if count != len(shown) or None in shown or len(set(shown)) != len(shown):
        yield "the source images are not one plane of the volume per frame"
        return
    indices = [index for index in shown if index is not None]
    yield from _plane_faults(dataset, material, indices)
    yield from _pixel_faults(dataset, material, indices)


def _common_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    source = read_source(material.volume, material.header.body_part)
    if dataset.get("BurnedInAnnotation") != ("YES" if source.burned_in else "NO"):
        yield "Burned In Annotation is not what follows from the source"
    if not dataset.get("ConversionType"):
        yield "Conversion Type is absent"
    segs = {thing.sop_instance_uid for thing in material.siblings if thing.kind == "seg"}
    named = {str(one.ReferencedSOPInstanceUID) for one in dataset.get("SourceInstanceSequence") or ()}
    if not segs <= named or not segs <= set(result.refers_to):
        yield "it does not refer to the segmentations that say the same"


def _plane_faults(dataset: Dataset, material: Material, indices: list[int]) -> Iterator[str]:
    """Compare the upper left corner and the directions of each frame with those of its source plane."""
    volume, image = material.volume, material.volume.image
    if not (image.is_spatial and volume.frame_of_reference_uid):
        if "FrameOfReferenceUID" in dataset or "PerFrameFunctionalGroupsSequence" in dataset:
            yield "frames have a place in the patient that the source does not have"
        return
    if dataset.get("FrameOfReferenceUID") != volume.frame_of_reference_uid:
        yield "the frame of reference is not that of the source"
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(groups) != len(indices):
        yield "not every frame has a place"
        return
    shared = dataset.SharedFunctionalGroupsSequence[0]
    row_mm, column_mm = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    cosines = [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    right, down = np.array(cosines[:3]), np.array(cosines[3:])
    yield from orientation_faults(shared, image)
    to_corner = -(row_mm * down + column_mm * right) / 2
    source_corner = -(image.affine[:3, 1] + image.affine[:3, 2]) / 2
    displaced = 0
    for group, index in zip(groups, indices, strict=True):
        position = np.array([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient])
        wanted = np.array(volume.slices[index].position_mm, dtype=np.float64)
        displaced += not np.allclose(position + to_corner, wanted + source_corner, atol=POSITION_MM)
    if displaced:
        yield f"{displaced} frames do not lie where their source plane lies"


def _pixel_faults(dataset: Dataset, material: Material, indices: list[int]) -> Iterator[str]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    needed = len(indices) * rows * columns * 3
    if len(dataset.PixelData) != needed + needed % 2 or rows <= BAND_PX or columns <= PANEL_PX:
        yield "Pixel Data has not the length that its frames need"
        return
    if needed > material.job.presentation.max_object_mb * 1e6 and len(indices) > 1:
        yield "it is larger than objects may be"
    frames: NDArray[np.uint8] = np.frombuffer(dataset.PixelData, np.uint8, needed)
    frames = frames.reshape(len(indices), rows, columns, 3)
    notice = np.asarray(band(material, columns))
    bare = sum(not np.array_equal(frame[-BAND_PX:], notice) for frame in frames)
    if bare:
        yield f"{bare} frames do not show the notice and the algorithm"
    colourless = 0
    for frame, index in zip(frames, indices, strict=True):
        colours = {region.colour_rgb for region in regions_at(material.findings, index)}
        if all(len(set(colour)) == 1 for colour in colours):
            continue  # nothing there, or all of it grey
        area = frame[:-BAND_PX, :-PANEL_PX]
        colourless += not (area[..., 0] != area[..., 2]).any() and not (area[..., 0] != area[..., 1]).any()
    if colourless:
        yield f"{colourless} frames do not show what was outlined there"


def pdf_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a report as a PDF."""
    if dataset.SOPClassUID != EncapsulatedPDFStorage or dataset.Modality != "DOC":
        yield "the class or modality is not Encapsulated PDF"
    if dataset.get("MIMETypeOfEncapsulatedDocument") != MIME_TYPE:
        yield "the MIME type is not that of a PDF"
    if dataset.get("DocumentTitle") != document_title(material):
        yield "Document Title is not that of the analysis"
    concepts = [code_of(one)[:2] for one in dataset.get("ConceptNameCodeSequence") or ()]
    if concepts != [TITLE[:2]]:
        yield "the concept of the document is not an imaging report"
    yield from _common_faults(dataset, result, material)
    named = {str(one.ReferencedSOPInstanceUID) for one in dataset.get("SourceInstanceSequence") or ()}
    if not used_instances(material.volumes) <= named:
        yield "it does not name every instance that was used"
    content = dataset.get("EncapsulatedDocument") or b""
    length = int(dataset.get("EncapsulatedDocumentLength") or 0)
    if not 0 <= len(content) - length <= 1:
        yield "Encapsulated Document Length is not the length of the document"
    if length > material.job.presentation.max_object_mb * 1e6:
        yield "it is larger than objects may be"
    yield from document_faults(bytes(content[:length]))


def document_faults(content: bytes) -> Iterator[str]:
    """Yield what is wrong with the document itself: each page must carry the notice as text."""
    if not content.startswith(b"%PDF-") or not content.rstrip().endswith(b"%%EOF"):
        yield "the document is not a whole PDF"
        return
    pages = len(_PAGE.findall(content))
    noticed = sum(f"({RESEARCH_NOTICE}) Tj".encode() in stream for stream in _streams(content))
    if not pages or noticed != pages:
        yield f"{pages - noticed} of {pages} pages do not carry the notice"


def _streams(content: bytes) -> Iterator[bytes]:
    """Yield what the compressed streams of a PDF hold; those that are not text give nothing useful."""
    for start in _STREAM.finditer(content):
        packed = content[start.end() : start.end() + int(start[1])]
        try:
            yield zlib.decompressobj().decompress(packed, _STREAM_MAX)
        except zlib.error:
            continue  # a picture
