"""What is made beside a job is judged before it leaves, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode.lint.alone import lint_alone
from node.errors import EncodeError
from node.model import ResultObject
from tests.encode.helpers import LEFT_LUNG, encoded, findings_of, single_frame_volume
from tests.phantoms import make_affine

SHAPE = (5, 16, 18)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultObject, ...]:
    folder = tmp_path_factory.mktemp("alone")
    volume = single_frame_volume(folder / "in", np.zeros(SHAPE, np.int16), make_affine("axial"))
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 3:12, 3:12] = True
    return encoded(volume, findings_of(volume, [mask], [LEFT_LUNG]), folder / "out").objects


def test_what_we_make_is_in_order(made: tuple[ResultObject, ...]) -> None:
    for thing in made:
        lint_alone(thing)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda ds: setattr(ds, "InstanceCreatorUID", "1.2.3"), "Instance Creator"),
        (lambda ds: setattr(ds, "SpecificCharacterSet", "ISO_IR 100"), "ISO_IR 192"),
        (lambda ds: setattr(ds, "ContentQualification", "PRODUCT"), "RESEARCH"),
        (lambda ds: delattr(ds, "ContentDate"), "Content Date"),
        (lambda ds: setattr(ds, "SOPInstanceUID", "1.2.3"), "not the one"),
        (lambda ds: setattr(ds, "preamble", b"X" * 128), "preamble"),
        (lambda ds: setattr(ds.file_meta, "ImplementationClassUID", "1.2.3"), "implementation"),
        (lambda ds: setattr(ds, "StationName", "x" * 17), "longer"),
        (lambda ds: ds.CurrentRequestedProcedureEvidenceSequence.clear(), "not in the evidence"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_each_fault_is_found(
    made: tuple[ResultObject, ...], tmp_path: Path, damage: Callable[[Dataset], None], told: str
) -> None:
    (report,) = (thing for thing in made if thing.kind == "sr-measurements")
    dataset = pydicom.dcmread(report.path)
    damage(dataset)
    dataset.save_as(tmp_path / "damaged.dcm")
    with pytest.raises(EncodeError, match=told):
        lint_alone(replace(report, path=tmp_path / "damaged.dcm"))
