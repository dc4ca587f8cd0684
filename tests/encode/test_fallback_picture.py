"""A parametric map as colour pictures, where a destination takes no maps."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    generate_uid,
)

from node.encode.common import save
from node.encode.fallback import stand_ins
from node.encode.fallback.picture import NARROWEST_PX, STRIP_PX, to_picture
from node.encode.items import item
from node.encode.material import NotApplicable
from node.model import ResultObject
from node.picture.draw import heat_colours
from tests.encode.helpers import (
    single_frame_volume,
)
from tests.encode.judges import (
    dciodvfy_errors,
    needs_dciodvfy,
)
from tests.encode.labelmaps import as_ours, things
from tests.phantoms import make_affine


def a_map(folder: Path, values: np.ndarray, *, floating: bool) -> ResultObject:
    """Write a Parametric Map by highdicom; integers stand for hundredths."""
    volume = single_frame_volume(folder / "in", np.zeros(values.shape, np.int16), make_affine("axial"))
    sources = [pydicom.dcmread(s.path) for s in volume.slices]
    codes = pydicom.sr.codedict.codes
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="p",
        lut_explanation="Probability of a nodule",
        unit=codes.UCUM.NoUnits,
        value_range=(-1000.0, 1000.0) if floating else (0, 100),
        slope=1.0 if floating else 0.01,
        intercept=0.0,
    )
    stored = values.astype(np.float32) if floating else np.rint(values * 100).astype(np.uint16)
    pm = hd.pm.ParametricMap(
        sources,
        stored,
        generate_uid(),
        1,
        generate_uid(),
        1,
        "m",
        "n",
        "1",
        "s",
        False,
        [mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(0.5, 1.0)],
    )
    dataset = Dataset()
    dataset.update(pm)
    dataset.file_meta = pm.file_meta
    as_ours(dataset)
    return save(dataset, folder / "pm.dcm", kind="parametric-map")


@needs_dciodvfy
@pytest.mark.parametrize("floating", [True, False])
def test_a_parametric_map_becomes_colour_pictures_with_a_scale(tmp_path, floating):
    values = np.zeros((3, 40, 36))
    values[1, 10:20, 5:15] = 0.5
    values[2, 10:20, 5:15] = 1.0
    thing = a_map(tmp_path, values, floating=floating)
    assert thing.sop_class_uid == ParametricMapStorage
    taken = {ParametricMapStorage: False, MultiFrameTrueColorSecondaryCaptureImageStorage: True}
    (one,) = things(stand_ins([thing], {}, taken))
    assert dciodvfy_errors(one.path) == []
    dataset = pydicom.dcmread(one.path)
    zoom = -(-NARROWEST_PX // 36)
    frames = dataset.pixel_array  # (3, rows, columns, 3)
    assert frames.shape == (3, 40 * zoom + STRIP_PX, 36 * zoom, 3)
    drawn = frames[:, : 40 * zoom : zoom, ::zoom].astype(int)
    written = pydicom.dcmread(thing.path).pixel_array * (1.0 if floating else 0.01)
    assert sorted(frame.max() for frame in written) == [0.0, 0.5, 1.0]
    shades = []
    for share in (0.0, 0.5, 1.0):  # the colours of the map in an overlay, lighter the higher
        (shade,) = np.unique(drawn[np.isclose(written, share)], axis=0)
        assert shade.tolist() == (heat_colours(np.float32(share)) + 0.5).astype(int).tolist()
        shades.append(shade.sum())
    assert shades == sorted(set(shades))
    below = frames[:, 40 * zoom :].reshape(3, -1)
    assert (below.max(axis=1) == 255).all(), "the scale and the words stand below each picture"


def test_a_stand_in_that_would_fill_the_memory_of_the_sender_is_refused_unread() -> None:
    huge = item(Rows=2000, Columns=2000, NumberOfFrames=50)  # 600 MB as pictures, and no pixels to decode
    with pytest.raises(NotApplicable, match="larger than 512 MB"):
        to_picture(huge)
