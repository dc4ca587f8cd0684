"""What a Parametric Map must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from node.encode.items import code_of, place_of, plane_places
from node.encode.lint.grid import POSITION_MM, grid_faults, reference_faults
from node.encode.material import Material
from node.encode.planes import plane_content
from node.encode.render.parametric_map import frame_indices, written_slices
from node.encode.repair import cut
from node.model import ResultObject
from pipelines.contract import Map


def parametric_map_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a Parametric Map."""
    if dataset.SOPClassUID != ParametricMapStorage or dataset.BitsAllocated != 32:
        yield "the class is not Parametric Map, or its values are not 32 bit"
    if "PixelData" in dataset or "DoubleFloatPixelData" in dataset:
        yield "it holds other pixels than Float Pixel Data"
    yield from reference_faults(dataset, material)
    yield from grid_faults(dataset, material.volume.image)
    labels = [cut(one.label, 64) for one in material.findings.maps]
    told = str(dataset.ContentDescription)
    if told not in labels:
        yield "it is none of the maps of the findings"
        return
    named = [one for one, label in zip(material.findings.maps, labels, strict=True) if label == told]
    whole = pydicom.dcmread(result.path)  # Float Pixel Data would be left on disk otherwise
    problems = [list(_frame_faults(whole, one, material)) for one in named]
    if all(problems):
        yield from problems[0]


def _mapping_faults(mapping: Dataset, one: Map) -> Iterator[str]:
    if (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) != (1, 0):
        yield "its values are not what it says they are mapped to"
    if code_of(mapping.MeasurementUnitsCodeSequence[0])[:2] != one.unit[:2]:
        yield "the unit is not that of the findings"
    answers = [code_of(a.ConceptCodeSequence[0])[:2] for a in mapping.QuantityDefinitionSequence]
    if answers[0] != one.quantity[:2]:
        yield "the quantity is not that of the findings"


def _frame_faults(dataset: Dataset, one: Map, material: Material) -> Iterator[str]:
    """Each frame: its source, its place, its values."""
    yield from _mapping_faults(
        dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0], one
    )
    groups = dataset.PerFrameFunctionalGroupsSequence
    values = np.frombuffer(dataset.FloatPixelData, dtype="<f4")
    if len(groups) != dataset.NumberOfFrames or values.size != len(groups) * one.array[0].size:
        yield "Float Pixel Data has not the length that its frames need"
        return
    frames = values.reshape(len(groups), *one.array.shape[1:])
    places = plane_places(material.volume)
    written = []
    displaced = unequal = 0
    meant = written_slices(one, material)
    if len(meant) != len(groups):
        yield "the frames are not all slices from the first to the last with a value"
        return
    ranks = frame_indices(material.volume, meant)
    for rank, group, plane in zip(ranks, groups, frames, strict=True):
        index = places.get(place_of(group.DerivationImageSequence[0].SourceImageSequence[0]))
        if index is None:
            yield "a frame comes from an image that is not of the source"
            return
        written.append(index)
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        wanted = material.volume.slices[index].position_mm
        displaced += wanted is None or not np.allclose(position, wanted, atol=POSITION_MM)
        content = group.FrameContentSequence[0]
        values_said = content.DimensionIndexValues
        displaced += [values_said] != rank if isinstance(values_said, int) else list(values_said) != rank
        displaced += content.get("TemporalPositionIndex") != plane_content(material.volume, index).get(
            "TemporalPositionIndex"
        )
        unequal += not np.array_equal(plane, one.array[index])
    if written != meant:
        yield "the frames are not all slices from the first to the last with a value"
    if displaced:
        yield f"{displaced} frames do not lie where their source plane lies"
    if unequal:
        yield f"{unequal} frames do not hold the values of the findings"
