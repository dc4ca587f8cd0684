"""RLE Lossless frames, decoded by pydicom and pylibjpeg (and by DCMTK in `test_labelmap`)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from node.encode.seg.runs import run_length_encoded


def decoded(frame: bytes, like: np.ndarray, plugin: str) -> np.ndarray:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = RLELossless
    ds.Rows, ds.Columns = like.shape
    ds.SamplesPerPixel, ds.PixelRepresentation, ds.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = like.itemsize * 8
    ds.HighBit = ds.BitsStored - 1
    ds.PixelData = encapsulate([frame])
    return pixel_array(ds, decoding_plugin=plugin)


FRAMES = {
    "one value": np.full((3, 400), 7, np.uint8),
    "a run of 128": np.repeat(np.arange(4, dtype=np.uint8), 128).reshape(4, 128),
    "a run of 129": np.repeat(np.arange(2, dtype=np.uint8), 129).reshape(2, 129),
    "rows that begin as the last ended": np.repeat(np.uint8([[1, 2], [2, 3]]), 65, axis=1),
    "no two alike": np.arange(255, dtype=np.uint8).reshape(5, 51),
    "one pixel": np.array([[5]], np.uint8),
    "16 bit": (np.arange(600, dtype="<u2") // 7 * 100).reshape(20, 30),
}


@pytest.mark.parametrize("plugin", ["pydicom", "pylibjpeg"])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_others_decode_every_pixel(frame: np.ndarray, plugin: str) -> None:
    np.testing.assert_array_equal(decoded(run_length_encoded(frame), frame, plugin), frame)


@settings(max_examples=60, deadline=None)
@given(
    array_shapes(min_dims=2, max_dims=2, max_side=150).flatmap(
        lambda shape: st.one_of(
            arrays(np.uint8, shape, elements=st.integers(0, 3)), arrays(np.dtype("<u2"), shape)
        )
    )
)
def test_any_frame_comes_back(frame: np.ndarray) -> None:
    np.testing.assert_array_equal(decoded(run_length_encoded(frame), frame, "pydicom"), frame)


def test_runs_end_with_their_row() -> None:
    header, body = (lambda data: (data[:64], data[64:]))(run_length_encoded(np.full((2, 3), 9, np.uint8)))
    assert header[:8] == bytes([1, 0, 0, 0, 64, 0, 0, 0])
    assert body == bytes([254, 9, 254, 9])  # three times 9, twice
