"""Images that stand for themselves reach a model as a viewer shows them, or are refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.assemble.image import load_volume, load_volumes
from node.assemble.reason import Reason
from pipelines.contract import Code, InputRefused, InputSpec, read_card
from tests.paths import SHARED, needs_shared
from tests.phantom_planes import item, ramp, region, write_plane
from tests.phantoms import instances_of

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")

PLANES = InputSpec(modality=("CR", "DX", "MG", "US"), unit="1", kind="planes", slices_min=1)


def loaded(*paths, spec=PLANES):
    return load_volume(instances_of(paths), spec)


def display_of(path, **options):
    """Return the display values of one image, (rows, columns)."""
    return loaded(write_plane(path / "a.dcm", **options)).image.array[0]


def refusal(*paths, spec=PLANES):
    with pytest.raises(InputRefused) as caught:
        loaded(*paths, spec=spec)
    return caught.value


# What it is


def test_a_radiograph_is_one_slice_without_a_place_in_the_patient(tmp_path):
    headers = {"PixelSpacing": [0.2, 0.3], "PixelSpacingCalibrationType": "FIDUCIAL", "ViewPosition": "PA"}
    stored = ramp()
    volume = loaded(write_plane(tmp_path / "a.dcm", stored, headers=headers))
    image = volume.image
    assert image.array.shape == (1, *stored.shape) and image.array.dtype == np.float32
    assert image.unit == Code("1", "UCUM", "no units") and image.modality == "DX"
    assert not image.is_spatial and image.is_calibrated and image.colour is None
    np.testing.assert_array_equal(image.affine, np.diag([1.0, 0.2, 0.3, 1.0]))
    assert image.facts["ViewPosition"] == "PA"
    [plane] = volume.slices
    assert plane.frame is None and plane.position_mm is None
    assert volume.frame_of_reference_uid == ""


def test_a_frame_of_reference_of_the_source_is_kept(tmp_path):
    path = write_plane(tmp_path / "a.dcm", ramp(), headers={"FrameOfReferenceUID": "1.2.3"})
    assert loaded(path).frame_of_reference_uid == "1.2.3"


def test_images_are_ordered_by_instance_number_then_uid_then_frame(tmp_path):
    def write(name, value, number, frames=None):
        stored = np.full((4, 6), value, np.uint8)
        if frames:
            stored = np.stack([stored + i for i in range(frames)])
        window = {"WindowCenter": 128, "WindowWidth": 256}
        return write_plane(tmp_path / name, stored, modality="US", number=number, headers=window)

    paths = [write("z.dcm", 90, 10), write("a.dcm", 20, 9, 3), write("m.dcm", 60, None), write("b.dcm", 5, 2)]
    volume = loaded(*paths)
    np.testing.assert_allclose(volume.image.array[:, 0, 0] * 255, [5, 20, 21, 22, 90, 60], atol=1e-3)
    assert [plane.frame for plane in volume.slices] == [None, 1, 2, 3, None, None]
    assert [plane.path.name for plane in volume.slices] == ["b.dcm", *["a.dcm"] * 3, "z.dcm", "m.dcm"]
    same = [write(f"{name}.dcm", 1, 1) for name in "xy"]
    uids = [plane.sop_instance_uid for plane in loaded(*same).slices]
    assert uids == sorted(uids)


def test_only_facts_that_hold_for_every_image_are_told(tmp_path):
    pa = write_plane(tmp_path / "a.dcm", ramp(), headers={"ViewPosition": "PA", "BodyPartExamined": "CHEST"})
    ll = write_plane(
        tmp_path / "b.dcm", ramp(), number=2, headers={"ViewPosition": "LL", "BodyPartExamined": "CHEST"}
    )
    facts = loaded(pa, ll).image.facts
    assert facts["BodyPartExamined"] == "CHEST" and "ViewPosition" not in facts


def test_a_mask_made_on_planes_lies_where_the_pixels_are(tmp_path):
    """From the card's file to the pixels and back: what a threshold finds is what was written."""
    card_file = tmp_path / "card" / "card.toml"
    card_file.parent.mkdir()
    card = {"name": "toy", "version": "1", "title": "Toy", "maker": "test", "intended_use": "test"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in (card | {"use": "a.b:C"}).items()]
    lines += ["[inputs.us]", 'modality = ["US"]', 'unit = "1"', 'kind = "planes"']
    card_file.write_text("\n".join(lines))
    stored = np.zeros((3, 40, 60), np.uint8)
    stored[1, 5:9, 30:50] = 200  # an L without symmetry, in the second frame of the second instance
    stored[1, 9:25, 46:50] = 200
    blank = write_plane(tmp_path / "1.dcm", np.zeros_like(stored), modality="US", number=1)
    cine = write_plane(tmp_path / "2.dcm", stored, modality="US", number=2)
    volume = load_volumes({"us": instances_of([cine, blank])}, read_card(card_file))["us"]
    mask = volume.image.array > 0.5
    assert mask.sum() == (stored > 100).sum()
    for index, plane in enumerate(volume.slices):
        pixels = pydicom.dcmread(plane.path).pixel_array[plane.frame - 1]
        np.testing.assert_array_equal(mask[index], pixels > 100)


# Display values


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_without_a_window_the_darkest_and_the_brightest_pixel_are_black_and_white(tmp_path, photometric):
    stored = ramp(start=100)
    volume = loaded(write_plane(tmp_path / "a.dcm", stored, photometric=photometric))
    expected = (stored - 100.0) / (stored.max() - 100.0)
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    np.testing.assert_allclose(volume.image.array[0], expected, atol=1e-6)
    assert any("darkest" in note for note in volume.notes)


def test_the_frames_of_a_cine_share_black_and_white(tmp_path):
    stored = np.array([[[0, 10]], [[0, 20]]], np.uint8)
    cine = write_plane(tmp_path / "a.dcm", stored, modality="US")
    other = write_plane(tmp_path / "b.dcm", stored[1], modality="US", number=2)
    np.testing.assert_allclose(loaded(cine, other).image.array[:, 0, 1], [0.5, 1.0, 1.0])


def test_a_blank_image_is_black(tmp_path):
    assert display_of(tmp_path, stored=np.full((4, 6), 7, np.uint16)).max() == 0.0


def test_a_steep_sigmoid_does_not_overflow(tmp_path):
    headers = {"WindowCenter": 100, "WindowWidth": 0.01, "VOILUTFunction": "SIGMOID"}
    stored = np.array([[0, 100, 60000]], np.uint16)
    with np.errstate(all="raise", under="ignore"):
        assert display_of(tmp_path, stored=stored, headers=headers).tolist() == [
            [pytest.approx(0, abs=1e-6), 0.5, 1.0]
        ]


WINDOWS = {
    # PS3.3 C.11.2.1.2: c = 100, w = 51; stored values 74, 75, 100, 125, 126
    "LINEAR": [0.0, 0.01, 0.51, 1.0, 1.0],
    "LINEAR_EXACT": [0.0, 0.5 - 25 / 51, 0.5, 0.5 + 25 / 51, 1.0],
    "SIGMOID": [1 / (1 + np.exp(-4 * (x - 100) / 51)) for x in (74, 75, 100, 125, 126)],
}


@pytest.mark.parametrize("function", WINDOWS)
def test_the_first_window_is_applied_as_the_standard_has_it(tmp_path, function):
    headers = {"WindowCenter": [100, 7], "WindowWidth": [51, 8], "VOILUTFunction": function}
    stored = np.array([[74, 75, 100, 125, 126]], np.uint16)
    expected = WINDOWS[function]
    np.testing.assert_allclose(display_of(tmp_path, stored=stored, headers=headers)[0], expected, atol=1e-6)


def test_a_window_of_one_is_a_threshold(tmp_path):
    headers = {"WindowCenter": 100.5, "WindowWidth": 1}
    stored = np.array([[99, 100, 101]], np.uint16)
    assert display_of(tmp_path, stored=stored, headers=headers).tolist() == [[0, 0, 1]]


def test_the_window_is_of_rescaled_values_and_before_the_inversion(tmp_path):
    headers = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 0, "WindowWidth": 100}
    headers |= {"VOILUTFunction": "LINEAR_EXACT"}
    stored = np.array([[25, 50, 60]], np.uint16)  # -50, 0, 20 after the rescale
    shown = display_of(tmp_path, stored=stored, photometric="MONOCHROME1", headers=headers)
    np.testing.assert_allclose(shown, [[1.0, 0.5, 0.3]], atol=1e-6)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "IDENTITY", True),  # a default that says nothing
        ("MONOCHROME1", "INVERSE", True),  # says of MONOCHROME1 what it is, and inverts nothing twice
    ],
)
def test_black_and_white_are_inverted_once_at_most(tmp_path, photometric, shape, inverted):
    headers = {"WindowCenter": 128, "WindowWidth": 256}
    headers |= {"PresentationLUTShape": shape} if shape else {}
    stored = np.array([[0, 255]], np.uint8)
    shown = display_of(tmp_path, stored=stored, photometric=photometric, headers=headers)
    assert shown.tolist() == ([[1, 0]] if inverted else [[0, 1]])


def test_a_contradiction_about_black_and_white_is_refused(tmp_path):
    path = write_plane(tmp_path / "a.dcm", ramp(), headers={"PresentationLUTShape": "INVERSE"})
    assert refusal(path).code == "colour-unknown"


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_padding_sets_no_limit_and_is_black(tmp_path, photometric):
    stored = np.array([[0, 5, 100, 200, 300]], np.uint16)
    headers = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 5}
    shown = display_of(tmp_path, stored=stored, photometric=photometric, headers=headers)
    middle = [0, 0.5, 1.0] if photometric == "MONOCHROME2" else [1.0, 0.5, 0]
    assert shown.tolist() == [[0, 0, *middle]]


def lut(entries, first=0, bits=12):
    return item(LUTDescriptor=[len(entries), first, bits], LUTData=np.array(entries, "<u2").tobytes())


def test_a_voi_table_comes_before_a_window(tmp_path):
    table = lut([0, 1000, 4095], first=10)
    headers = {"VOILUTSequence": [table], "WindowCenter": 1, "WindowWidth": 1}
    stored = np.array([[5, 10, 11, 12, 99]], np.uint16)
    shown = display_of(tmp_path, stored=stored, headers=headers)
    np.testing.assert_allclose(shown, [[0, 0, 1000 / 4095, 1, 1]], atol=1e-6)


def test_padding_is_black_whatever_a_table_makes_of_it(tmp_path):
    headers = {"VOILUTSequence": [lut([255, 0, 128], bits=8)], "PixelPaddingValue": 0}
    shown = display_of(tmp_path, stored=np.array([[0, 1, 2]], np.uint16), headers=headers)
    np.testing.assert_allclose(shown, [[0, 0, 128 / 255]], atol=1e-6)


def test_a_table_of_all_sixteen_bits_says_none_for_its_length(tmp_path):
    entries = np.arange(65535, -1, -1)
    table = item(LUTDescriptor=[0, 0, 16], LUTData=entries.astype("<u2").tobytes())
    shown = display_of(
        tmp_path, stored=np.array([[0, 65535]], np.uint16), headers={"VOILUTSequence": [table]}
    )
    assert shown.tolist() == [[1, 0]]


def test_a_modality_table_comes_before_the_window(tmp_path):
    table = lut([500, 600, 700], bits=16)
    headers = {"ModalityLUTSequence": [table], "WindowCenter": 600, "WindowWidth": 200}
    headers |= {"VOILUTFunction": "LINEAR_EXACT"}
    shown = display_of(tmp_path, stored=np.array([[0, 1, 2]], np.uint16), headers=headers)
    np.testing.assert_allclose(shown, [[0.0, 0.5, 1.0]], atol=1e-6)


def test_a_first_value_below_zero_may_be_written_without_its_sign(tmp_path):
    table = lut([0, 255, 255, 0], bits=8)
    table.add_new("LUTDescriptor", "US", [4, 65534, 8])
    stored = np.array([[-2, -1, 0, 1]], np.int16)
    path = write_plane(tmp_path / "a.dcm", stored, headers={"VOILUTSequence": [table]})
    assert loaded(path).image.array[0].tolist() == [[0, 1, 1, 0]]


def test_the_modality_table_of_an_angiography_is_not_for_display(tmp_path):
    headers = {"ModalityLUTSequence": [lut([900, 200, 0], bits=16)], "Modality": "XA"}
    path = write_plane(tmp_path / "a.dcm", np.array([[0, 1, 2]], np.uint16), headers=headers)
    volume = loaded(path, spec=dataclasses.replace(PLANES, modality=("XA",)))
    assert volume.image.array[0].tolist() == [[0.0, 0.5, 1.0]]


def test_a_table_for_signed_values_begins_below_zero(tmp_path):
    headers = {"VOILUTSequence": [lut([0, 255, 255, 0], first=-2, bits=8)]}
    stored = np.array([[-2, -1, 0, 1]], np.int16)
    assert display_of(tmp_path, stored=stored, headers=headers).tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize(
    "headers",
    [
        {"VOILUTSequence": [item(LUTDescriptor=[5, 0, 12], LUTData=bytes(4))]},
        {"VOILUTSequence": [item(LUTDescriptor=[2, 0, 40], LUTData=bytes(4))]},
        {"VOILUTSequence": [item(LUTDescriptor=[2, 0, 12])]},
        {"ModalityLUTSequence": [item(LUTDescriptor=[2, 0, 16])]},
        {"WindowCenter": 5, "WindowWidth": 0},
        {"WindowCenter": 5, "WindowWidth": "1e300"},
        {"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
    ],
    ids=range(7),
)
def test_what_cannot_be_used_of_a_header_is_told_and_left(tmp_path, headers):
    volume = loaded(write_plane(tmp_path / "a.dcm", ramp(), headers=headers))
    assert volume.image.array.min() == 0 and volume.image.array.max() == 1
    assert any("cannot be used" in note for note in volume.notes)


def test_frames_of_an_enhanced_object_have_windows_of_their_own(tmp_path):
    def edit(ds):
        ds.SharedFunctionalGroupsSequence = [item(PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.5])])]
        ds.PerFrameFunctionalGroupsSequence = [
            item(FrameVOILUTSequence=[item(WindowCenter=c, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")])
            for c in (50, 100)
        ]

    stored = np.full((2, 4, 6), 75, np.uint16)
    volume = loaded(write_plane(tmp_path / "a.dcm", stored, edit=edit))
    np.testing.assert_allclose(volume.image.array[:, 0, 0], [0.75, 0.25])
    assert volume.image.spacing_mm == (1.0, 0.5, 0.5)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
)
def test_every_encoding_gives_the_same_grey(tmp_path, syntax):
    stored = np.stack([ramp(70, 90), ramp(70, 90, step=3)])
    path = write_plane(tmp_path / "a.dcm", stored, bits=12, transfer_syntax=syntax)
    np.testing.assert_allclose(loaded(path).image.array, stored / stored.max(), atol=1e-6)


# Colour

PAINT = np.random.default_rng(3).integers(0, 256, (2, 70, 90, 3)).astype(np.uint8)
WEIGHTS = np.array([0.299, 0.587, 0.114])


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
)
def test_every_encoding_gives_the_same_colours(tmp_path, syntax):
    path = write_plane(tmp_path / "a.dcm", PAINT, modality="US", photometric="RGB", transfer_syntax=syntax)
    image = loaded(path).image
    np.testing.assert_array_equal(image.colour, PAINT)
    np.testing.assert_allclose(image.array, PAINT @ WEIGHTS / 255, atol=1e-5)


def test_colour_by_plane_is_the_same_as_colour_by_pixel(tmp_path):
    def edit(ds):
        ds.PlanarConfiguration = 1
        ds.PixelData = np.moveaxis(PAINT, -1, 1).tobytes()

    path = write_plane(tmp_path / "a.dcm", PAINT, modality="US", photometric="RGB", edit=edit)
    np.testing.assert_array_equal(loaded(path).image.colour, PAINT)


def test_full_range_ybr_becomes_rgb(tmp_path):
    ybr = np.array([[[76, 85, 255], [150, 44, 21], [29, 255, 107], [255, 128, 128]]], np.uint8)
    path = write_plane(tmp_path / "a.dcm", ybr, modality="US", photometric="YBR_FULL")
    expected = [[[254, 0, 0], [0, 255, 1], [0, 0, 254], [255, 255, 255]]]
    np.testing.assert_allclose(loaded(path).image.colour[0].astype(int), expected, atol=1)


def test_native_ybr_422_shares_colour_between_pairs_of_pixels(tmp_path):
    def edit(ds):
        ds.PixelData = bytes([76, 76, 85, 255, 0, 255, 128, 128])

    blank = np.zeros((1, 4, 3), np.uint8)
    path = write_plane(tmp_path / "a.dcm", blank, modality="US", photometric="YBR_FULL_422", edit=edit)
    expected = [[[254, 0, 0], [254, 0, 0], [0, 0, 0], [255, 255, 255]]]
    np.testing.assert_allclose(loaded(path).image.colour[0].astype(int), expected, atol=1)


def test_colours_of_sixteen_bits_become_eight(tmp_path):
    stored = np.array([[[0, 65535, 32896]]], np.uint16)
    path = write_plane(tmp_path / "a.dcm", stored, modality="US", photometric="RGB")
    assert loaded(path).image.colour.tolist() == [[[[0, 255, 128]]]]


def palette(bits=16, first=0, **channels):
    """Return palette attributes; 16 bit entries hold the colour in their high byte."""
    headers = {}
    for name, values in channels.items():
        words = np.array(values, np.uint16) * (257 if bits == 16 else 1)
        headers[f"{name}PaletteColorLookupTableDescriptor"] = [len(values), first, bits]
        headers[f"{name}PaletteColorLookupTableData"] = words.astype("<u2" if bits == 16 else "u1").tobytes()
    return headers


COLOURS = {"Red": [0, 255, 0, 90], "Green": [0, 0, 255, 90], "Blue": [0, 0, 0, 91]}
INDEXED = np.array([[5, 6, 7, 8, 200, 0]], np.uint8)
SHOWN = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [90, 90, 91], [90, 90, 91], [0, 0, 0]]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_gives_its_colours(tmp_path, bits):
    headers = palette(bits, first=5, **COLOURS)
    path = write_plane(
        tmp_path / "a.dcm", INDEXED, modality="US", photometric="PALETTE COLOR", headers=headers
    )
    assert loaded(path).image.colour[0, 0].tolist() == SHOWN


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_in_big_endian_gives_the_same_colours(tmp_path, bits):
    headers = palette(bits, first=5, **COLOURS)
    for name in COLOURS:
        words = np.frombuffer(headers[f"{name}PaletteColorLookupTableData"], "<u2")
        headers[f"{name}PaletteColorLookupTableData"] = words.astype(">u2").tobytes()
    options = {"photometric": "PALETTE COLOR", "headers": headers, "transfer_syntax": ExplicitVRBigEndian}
    path = write_plane(tmp_path / "a.dcm", INDEXED.astype(np.uint16), modality="US", **options)
    assert loaded(path).image.colour[0, 0].tolist() == SHOWN


def test_a_palette_that_writes_eight_bits_as_sixteen_is_not_black(tmp_path):
    headers = palette(first=5, **COLOURS)
    for name, values in COLOURS.items():
        headers[f"{name}PaletteColorLookupTableData"] = np.array(values, "<u2").tobytes()
    path = write_plane(
        tmp_path / "a.dcm", INDEXED, modality="US", photometric="PALETTE COLOR", headers=headers
    )
    assert loaded(path).image.colour[0, 0].tolist() == SHOWN


def segmented(red):
    headers = palette(**{name: [0] * 6 for name in COLOURS})
    del headers["RedPaletteColorLookupTableData"]
    return headers | {"SegmentedRedPaletteColorLookupTableData": np.array(red, "<u2").tobytes()}


def test_a_segmented_palette_is_written_out(tmp_path):
    headers = segmented([0, 2, 0, 257, 1, 4, 257 * 5])  # discrete 0, 1; linear to 5 in four steps
    stored = np.arange(6, dtype=np.uint8)[None]
    path = write_plane(
        tmp_path / "a.dcm", stored, modality="US", photometric="PALETTE COLOR", headers=headers
    )
    assert loaded(path).image.colour[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        palette(Red=[1, 2], Green=[1, 2]),
        palette(Red=[1, 2], Green=[1, 2], Blue=[1]),
        palette(**COLOURS) | {"BluePaletteColorLookupTableDescriptor": [4000, 0, 16]},
        segmented([0, 2, 0, 257]),
        segmented([1, 65535, 9]),
        segmented([2, 1, 0, 0, 0]),
        segmented([9, 9, 9, 9]),
    ],
    ids=range(8),
)
def test_a_palette_that_is_missing_or_broken_is_refused(tmp_path, headers):
    path = write_plane(
        tmp_path / "a.dcm", INDEXED, modality="US", photometric="PALETTE COLOR", headers=headers
    )
    assert refusal(path).code == "colour-unknown"


def test_grey_images_beside_coloured_ones_are_given_as_colour_too(tmp_path):
    grey = write_plane(tmp_path / "a.dcm", ramp(70, 90), modality="US")
    paint = write_plane(tmp_path / "b.dcm", PAINT[0], modality="US", photometric="RGB", number=2)
    image = loaded(grey, paint).image
    assert (image.colour[0] == np.rint(image.array[0] * 255)[..., None]).all()
    np.testing.assert_array_equal(image.colour[1], PAINT[0])


def test_true_colour_is_no_supplemental_palette(tmp_path):
    headers = {"PixelPresentation": "TRUE_COLOR"}
    loaded(write_plane(tmp_path / "a.dcm", PAINT, modality="US", photometric="RGB", headers=headers))


# Distances


def spacing_of(path, modality="DX", **headers):
    image = (volume := loaded(write_plane(path / "a.dcm", ramp(), modality=modality, headers=headers))).image
    return image.spacing_mm[1:] if image.is_calibrated else None, " ".join(volume.notes)


def test_distances_at_the_detector_are_told_as_such(tmp_path):
    spacing, notes = spacing_of(tmp_path, ImagerPixelSpacing=[0.1, 0.2])
    assert spacing == (0.1, 0.2) and "at the detector" in notes
    magnified = {"EstimatedRadiographicMagnificationFactor": 1.25}
    assert "magnification 1.25" in spacing_of(tmp_path, ImagerPixelSpacing=[0.1, 0.2], **magnified)[1]
    spacing, notes = spacing_of(tmp_path, PixelSpacing=[0.1, 0.2], ImagerPixelSpacing=[0.1, 0.2])
    assert spacing == (0.1, 0.2) and "at the detector" in notes
    same = {"PixelSpacing": [0.1, 0.2], "ImagerPixelSpacing": [0.1, 0.2]}
    notes = spacing_of(tmp_path, **same, PixelSpacingCalibrationType="FIDUCIAL")[1]
    assert "at the detector" not in notes
    spacing, notes = spacing_of(tmp_path, PixelSpacing=[0.09, 0.18], ImagerPixelSpacing=[0.1, 0.2])
    assert spacing == (0.09, 0.18) and "at the detector" not in notes


@pytest.mark.parametrize("spacing", [None, [0, 0], [-1, 1], [1e9, 1], [0.1]])
def test_without_a_distance_pixels_stand_as_one_millimetre_and_that_is_told(tmp_path, spacing):
    path = write_plane(tmp_path / "a.dcm", ramp(), headers={"PixelSpacing": spacing} if spacing else {})
    volume = loaded(path)
    assert not volume.image.is_calibrated and volume.image.spacing_mm == (1.0, 1.0, 1.0)
    assert any("distance of pixels is not known" in note for note in volume.notes)


def test_an_ultrasound_region_in_centimetres_gives_the_distance(tmp_path):
    regions = [region(0.03, 0.02), region(0.01, 0.0, units=(4, 0), end=(20, 20))]  # and an ECG
    spacing, notes = spacing_of(tmp_path, "US", SequenceOfUltrasoundRegions=regions)
    assert spacing == pytest.approx((0.2, 0.3)) and "ultrasound region" in notes


@pytest.mark.parametrize(
    "regions",
    [
        [region(0.03, 0.02), region(0.04, 0.02)],  # two zooms
        [region(0.01, 0.5, units=(4, 7))],  # a spectrum
        [region(0.03, 0.02, end=(595, 10))],  # made smaller, the region left as it was
        [region(0.0, 0.02)],
        [item(PhysicalUnitsXDirection=3, PhysicalUnitsYDirection=3, PhysicalDeltaX=0.1, PhysicalDeltaY=0.1)],
    ],
    ids=range(5),
)
def test_an_ultrasound_region_that_leaves_a_doubt_gives_none(tmp_path, regions):
    assert spacing_of(tmp_path, "US", SequenceOfUltrasoundRegions=regions)[0] is None


def test_distances_that_differ_between_images_are_not_taken(tmp_path):
    paths = [
        write_plane(tmp_path / f"{i}.dcm", ramp(), number=i, headers={"PixelSpacing": [mm, mm]})
        for i, mm in enumerate((0.1, 0.2))
    ]
    volume = loaded(*paths)
    assert not volume.image.is_calibrated and any("differ" in note for note in volume.notes)


def test_the_card_limits_distances_that_are_known_and_no_others(tmp_path):
    spec = dataclasses.replace(PLANES, spacing_mm={"row": (0.05, 0.15), "slice": (3.0, 4.0)})
    path = write_plane(tmp_path / "a.dcm", ramp(), headers={"PixelSpacing": [0.5, 0.5]})
    assert refusal(path, spec=spec).code == "spacing-outside-card"
    loaded(write_plane(tmp_path / "b.dcm", ramp(), headers={"PixelSpacing": [0.1, 0.1]}), spec=spec)
    loaded(write_plane(tmp_path / "c.dcm", ramp()), spec=spec)


# Refusals


def test_several_sizes_are_refused_and_named(tmp_path):
    paths = [write_plane(tmp_path / f"{i}.dcm", ramp(20 + i, 30), number=i) for i in range(2)]
    refused = refusal(*paths)
    assert refused.code == "several-sizes" and "20 x 30, 21 x 30" in refused.sentence


def test_no_image_of_another_patient_or_modality_comes_along(tmp_path):
    a = write_plane(tmp_path / "a.dcm", ramp())
    other = write_plane(tmp_path / "b.dcm", ramp(), number=2, headers={"PatientID": "SIMULATED-2"})
    assert refusal(a, other).code == "several-patients"
    other = write_plane(tmp_path / "c.dcm", ramp(), number=2, modality="CR")
    assert refusal(a, other).code == "modality-not-accepted"
    assert refusal(a, spec=dataclasses.replace(PLANES, modality=("MG",))).code == "modality-not-accepted"


def test_too_few_images_and_other_units_are_refused(tmp_path):
    path = write_plane(tmp_path / "a.dcm", ramp())
    assert refusal(path, spec=dataclasses.replace(PLANES, slices_min=2)).code == "too-few-slices"
    assert refusal(path, spec=dataclasses.replace(PLANES, unit="[hnsf'U]")).code == "unit-not-accepted"


PAIRS = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}
PAIRS |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}

HOSTILE = [
    ({"Rows": 65535, "Columns": 65535}, "pixel-budget"),
    ({"NumberOfFrames": 2**31 - 1}, "pixel-budget"),
    ({"NumberOfFrames": 60_000}, "not-decodable"),
    ({"Rows": 21}, "not-decodable"),
    ({"RescaleSlope": "1e300", "RescaleIntercept": "0"}, "not-decodable"),
    ({"PhotometricInterpretation": "HSV"}, "colour-unknown"),
    ({"PhotometricInterpretation": "RGB"}, "colour-unknown"),
    ({"SamplesPerPixel": 3}, "colour-unknown"),
    ({"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_RCT"}, "colour-unknown"),
    ({"PixelPresentation": "MIXED"}, "colour-unknown"),
    (PAIRS | {"PlanarConfiguration": 1}, "not-decodable"),  # pairs of pixels lie together or not at all
    (PAIRS | {"Rows": 40, "Columns": 15}, "not-decodable"),
    ({"PixelData": None}, "no-pixels"),
    ({"BitsStored": 17}, "not-decodable"),
]


@pytest.mark.parametrize(("headers", "code"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_header_is_refused_with_a_reason(tmp_path, headers, code):
    assert refusal(write_plane(tmp_path / "a.dcm", ramp(), headers=headers)).code == code


def test_a_small_file_cannot_announce_many_compressed_frames(tmp_path):
    def edit(ds):
        ds.NumberOfFrames = 50_000

    path = write_plane(tmp_path / "a.dcm", ramp(4, 4), transfer_syntax=RLELossless)
    ds = pydicom.dcmread(path)
    ds.NumberOfFrames = 50_000
    ds.save_as(path)
    refused = refusal(path)
    assert refused.code == "not-decodable" and "too short" in refused.sentence


def test_more_frames_than_a_job_can_name_are_refused(tmp_path):
    stored = np.zeros((70_000, 1, 1), np.uint8)
    assert refusal(write_plane(tmp_path / "a.dcm", stored, modality="US")).code == "pixel-budget"
    halves = [write_plane(tmp_path / f"{i}.dcm", stored[:40_000], modality="US", number=i) for i in range(2)]
    assert refusal(*halves).code == "pixel-budget"


def test_images_that_are_too_many_pixels_together_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("node.assemble.planes.MAX_VOXELS", 1000)
    paths = [write_plane(tmp_path / f"{i}.dcm", ramp(), number=i) for i in range(2)]
    assert refusal(*paths).code == "pixel-budget"
    loaded(paths[0])
    paint = write_plane(tmp_path / "c.dcm", PAINT[0][:16, :24].copy(), modality="US", photometric="RGB")
    loaded(paint)
    monkeypatch.setattr("node.assemble.planes.MAX_VOXELS", 700)
    assert refusal(paint).code == "pixel-budget"


def test_a_volume_still_wants_measured_values(tmp_path):
    spec = dataclasses.replace(PLANES, kind="volume", slices_min=2)
    path = write_plane(tmp_path / "a.dcm", PAINT[0], modality="US", photometric="RGB")
    assert refusal(path, spec=spec).code == "not-greyscale"


# Real objects

REAL = {
    # file -> (row, column) boxes that must be brighter, and darker; in parts of the image
    "cxr/RG1_J2KI.dcm": ((0.45, 0.47, 0.48, 0.52), (0.25, 0.3, 0.25, 0.3)),  # spine, lung
    "cxr/dx_image.dcm": ((0.2, 0.4, 0.4, 0.55), (0.0, 0.05, 0.0, 0.05)),  # spine of a dog, air
    "mammography/GH133.dcm": ((0.4, 0.5, 0.7, 0.8), (0.4, 0.5, 0.05, 0.2)),  # breast, air
    "mammography/OutOfBoundsOverlay.dcm": ((0.7, 0.8, 0.4, 0.6), (0.0, 0.1, 0.0, 0.3)),
    "us_cine/examples_ybr_color.dcm": ((0.78, 0.82, 0.45, 0.55), (0.4, 0.5, 0.05, 0.2)),
}


@needs_shared
@pytest.mark.parametrize("name", REAL)
def test_real_images_are_not_inverted(name):
    image = loaded(SHARED / name).image
    assert image.array.dtype == np.float32 and image.array.min() >= 0 and image.array.max() <= 1
    assert np.isfinite(image.array).all()

    def mean(box):
        (rows, columns), (top, bottom, left, right) = image.array.shape[1:], box
        return image.array[
            :, int(top * rows) : int(bottom * rows) + 1, int(left * columns) : int(right * columns) + 1
        ].mean()

    bright, dark = (mean(box) for box in REAL[name])
    assert bright > dark + 0.05


@needs_shared
@pytest.mark.parametrize(
    "folder", ["cxr", "mammography", "us_cine", "odd_charsets_minipacs", "seg_sr_highdicom", "enhanced_ct"]
)
def test_every_real_object_gives_planes_or_a_reason(folder):
    given = 0
    for path in sorted(p for p in (SHARED / folder).rglob("*") if p.is_file()):
        try:
            [instance] = instances_of([path])
            modality = pydicom.dcmread(path, specific_tags=["Modality"]).get("Modality") or ""
        except (AttributeError, OSError, pydicom.errors.InvalidDicomError):
            continue  # without the UIDs by which the node files an instance
        try:
            volume = load_volume([instance], dataclasses.replace(PLANES, modality=(modality,)))
        except InputRefused as refused:
            assert refused.code in set(Reason)
            continue
        given += 1
        array = volume.image.array
        assert array.min() >= 0 and array.max() <= 1 and len(volume.slices) == len(array)
    assert given or folder == "enhanced_ct"  # which mixes grey and palette


@needs_shared
def test_the_cine_of_an_echocardiogram_has_its_frames_in_colour_but_no_distance():
    """It was made smaller and its region was not: a distance from it would be wrong by half."""
    volume = loaded(SHARED / "us_cine/examples_ybr_color.dcm")
    assert volume.image.array.shape == (30, 240, 320) and volume.image.colour.shape == (30, 240, 320, 3)
    assert [plane.frame for plane in volume.slices] == list(range(1, 31))
    assert not volume.image.is_calibrated and any("do not lie within" in note for note in volume.notes)


@needs_shared
def test_one_picture_in_many_colour_encodings_looks_the_same():
    folder = SHARED / "odd_charsets_minipacs" / "test_files"
    spec = dataclasses.replace(PLANES, modality=("OT", ""))
    reference = loaded(folder / "SC_rgb_rle.dcm", spec=spec).image.colour[0].astype(int)
    seen = 0
    for path in sorted([*folder.glob("SC_rgb_*.dcm"), folder / "SC_ybr_full_422_uncompressed.dcm"]):
        ds = pydicom.dcmread(path)
        if ds.Rows != 100 or ds.BitsAllocated > 16 or "Modality" not in ds:
            continue
        shown = loaded(path, spec=spec).image.colour
        if "2frame" not in path.name:
            assert np.abs(shown[0] - reference).mean() < 4, path.name  # some are lossy, with shared colours
            seen += 1
    assert seen >= 12


@needs_shared
def test_the_voi_table_of_a_mammogram_is_used():
    volume = loaded(SHARED / "mammography/GH133.dcm")
    ds = pydicom.dcmread(SHARED / "mammography/GH133.dcm")
    table = ds.VOILUTSequence[0]
    stored = ds.pixel_array
    index = np.clip(stored.astype(int) - table.LUTDescriptor[1], 0, len(table.LUTData) - 1)
    expected = np.array(table.LUTData)[index] / 4095.0
    expected[stored <= 30] = 0.0  # padding
    np.testing.assert_allclose(volume.image.array[0], expected, atol=1e-6)
    assert volume.image.facts["ViewPosition"] == "MLO"


def test_deflated_images_are_read(tmp_path):
    path = write_plane(tmp_path / "a.dcm", PAINT, modality="US", photometric="RGB")
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(path)
    np.testing.assert_array_equal(loaded(path).image.colour, PAINT)
