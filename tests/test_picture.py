from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from node.picture import PLANE_HEIGHT_PX, WIDEST_PLANE_PX, Layer, draw, draw_findings
from node.picture.cut import Region, View, view
from node.picture.draw import ROW_PX, Entry, legend, paint, scaled_mask
from node.picture.preview import FRAMES_SHOWN, three_planes, views_of
from node.picture.text import printable
from node.picture.window import LUNG as LUNG_WINDOW
from node.picture.window import SOFT_TISSUE, Window, window_of
from pipelines.contract import Code, Detection, Findings, Image, Map, Segment
from tests.encode.helpers import ANATOMY, LUNG, a_card

HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
GREY = Code("1", "UCUM", "no units")
SIZE = 32
TURNS = [
    (axes, signs) for axes in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
]  # every way in which the axes of an array may run along those of a patient


def a_turned_affine(axes: tuple[int, ...], signs: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for array_axis, (patient_axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[patient_axis, array_axis] = sign
    return affine


@pytest.mark.parametrize(("axes", "signs"), TURNS)
def test_left_front_and_head_are_where_a_reader_expects_them_however_the_grid_runs(axes, signs):
    affine = a_turned_affine(axes, signs)
    world = np.einsum("ij,j...->i...", affine[:3, :3], np.indices((SIZE,) * 3))  # LPS, millimetres
    left, back, head = (w > (w.min() + w.max()) / 2 for w in world)
    mask = left & ~back & head
    array = np.full((SIZE,) * 3, -1500.0, np.float32)
    sheet = draw(array, affine, HU, [Layer("corner", (255, 0, 0), mask)], "SIMULATED")
    pixels = np.asarray(sheet)[:PLANE_HEIGHT_PX, :, 0].reshape(PLANE_HEIGHT_PX, 3, PLANE_HEIGHT_PX) > 60
    axial, coronal, sagittal = (np.argwhere(pixels[:, panel]).mean(axis=0) for panel in range(3))
    middle = PLANE_HEIGHT_PX / 2
    assert axial[0] < middle < axial[1]  # the front is up, the patient's left on the right
    assert coronal[0] < middle < coronal[1]  # the head is up, the patient's left on the right
    assert sagittal[0] < middle and sagittal[1] < middle  # the head is up, the front on the left


@pytest.mark.parametrize("unit", [HU, GREY])
def test_nothing_outlined_still_gives_a_picture(unit):
    sheet = draw(np.zeros((4, 8, 6), np.float32), np.diag([5.0, 1.0, 1.0, 1.0]), unit, [], "SIMULATED")
    assert sheet.height > PLANE_HEIGHT_PX


def test_a_thin_slab_gives_a_small_picture():
    slab = np.zeros((2, 256, 256), np.float32)
    affine = a_turned_affine((2, 1, 0), (1.0, 1.0, 1.0)) * [0.05, 2.0, 2.0, 1.0]  # slices along z
    sheet = draw(slab, affine, HU, [], "SIMULATED")
    assert sheet.width <= 3 * WIDEST_PLANE_PX


def an_image(shape: tuple[int, int, int] = (4, 40, 30), **changes: Any) -> Image:
    values: dict[str, Any] = {
        "array": np.zeros(shape, np.float32),
        "affine": a_turned_affine((2, 1, 0), (1.0, 1.0, 1.0)),
        "unit": GREY,
        "modality": "MR",
    }
    return Image(**{**values, **changes})


def segments_of(labels: Sequence[str]) -> tuple[Segment, ...]:
    colours = [(255, 40 + 7 * n % 200, 20) for n in range(len(labels))]
    return tuple(
        Segment(number=n, label=label, category=ANATOMY, kind=LUNG, colour_rgb=colour)
        for n, (label, colour) in enumerate(zip(labels, colours, strict=True), start=1)
    )


def a_detection(shape: str, points: list[list[float]], number: int = 1) -> Detection:
    return Detection(
        number=number,
        label="Spot",
        category=ANATOMY,
        kind=LUNG,
        shape=shape,  # type: ignore[arg-type]
        points=np.array(points),
        colour_rgb=(0, 255, 0),
    )


def coloured(picture: Picture.Image) -> np.ndarray:
    """Return where a picture is not grey: (rows, columns), bool."""
    return np.ptp(np.asarray(picture).astype(int), axis=-1) > 40


def test_a_legend_of_a_hundred_structures_stays_on_the_picture():
    labels = [f"A structure with quite a long name {n}" for n in range(104)]
    masks = np.zeros((104, 4, 40, 30), bool)
    for n in range(104):
        masks[n, 1, n // 3, n % 30] = True
    findings = Findings(masks=masks, segments=segments_of(labels))
    case, card = {"ct": an_image()}, a_card()
    sheet = np.asarray(draw_findings(findings, case, card))
    assert (sheet[:, -3:] == 0).all() or sheet[PLANE_HEIGHT_PX:, -3:].max() == 0
    few = np.asarray(
        draw_findings(replace(findings, masks=masks[:2], segments=findings.segments[:2]), case, card)
    )
    assert sheet.shape[0] > few.shape[0]


@pytest.mark.parametrize("count", [1, 5, 40])
def test_a_legend_without_room_says_how_much_is_left_out(count):
    entries = [Entry(f"Structure {n}", (255, 0, 0)) for n in range(count)]
    sheet = np.asarray(legend(entries, (130, 6 * ROW_PX))).astype(int)
    swatches = (sheet[..., 0] - sheet[..., 1] > 100)[:, 4:17].any(axis=1).reshape(6, ROW_PX).any(axis=1)
    assert swatches.sum() == (count if count <= 6 else 5)
    assert sheet[5 * ROW_PX :].any() == (count > 5)  # "and 35 more"


def test_an_outline_covers_its_pixels_and_its_border_is_solid():
    mask = np.zeros((40, 30), bool)
    mask[10:20, 5:15] = True
    region = Region(number=1, label="A", colour_rgb=(255, 0, 0), mask=mask)
    plane = View(pixels=np.full((40, 30, 3), 100, np.uint8), row_mm=1.0, column_mm=1.0, regions=(region,))
    picture = np.asarray(paint(plane, (300, 400)))
    red = picture[..., 0].astype(int) - picture[..., 1] > 20
    expected = np.zeros((400, 300), bool)
    expected[100:200, 50:150] = True
    np.testing.assert_array_equal(red, expected)
    assert (picture[100, 50:150] == (255, 0, 0)).all() and (picture[100:200, 149] == (255, 0, 0)).all()
    assert (picture[150, 100] != (255, 0, 0)).any()  # inside one sees the image


def test_something_tiny_leaves_a_trace_when_the_picture_is_reduced():
    mask = np.zeros((2000, 1500), bool)
    mask[700, 300] = True
    scaled = scaled_mask(mask, (300, 400))
    assert scaled.any() and np.argwhere(scaled).mean(axis=0) == pytest.approx((140, 60), abs=1.5)


def test_a_texture_is_tinted_without_lines():
    mask = np.zeros((64, 64), bool)
    mask[::2, ::2] = True
    region = Region(number=1, label="A", colour_rgb=(255, 0, 0), mask=mask)
    plane = View(pixels=np.full((64, 64, 3), 100, np.uint8), row_mm=1.0, column_mm=1.0, regions=(region,))
    assert (np.asarray(paint(plane, (64, 64)))[mask][:, 1] > 30).all()


@pytest.mark.parametrize(
    ("shape", "points", "expected"),
    [
        ("point", [[1, 20, 15]], (21.17, 14.83)),  # arms of 6.7 pixels of the picture
        ("line", [[1, 10, 5], [1, 30, 25]], (30.5, 5.5)),
        ("box", [[1, 10, 5], [1, 20, 15]], (20.5, 5.5)),
        ("contour", [[1, 10, 5], [1, 10, 15], [1, 20, 15], [1, 20, 5]], (20.5, 5.5)),
    ],
)
def test_a_detection_is_drawn_where_it_is(shape, points, expected):
    findings = Findings(detections=(a_detection(shape, points),))
    plane = view(an_image(), findings, Window(0, 1), 1)
    picture = np.asarray(paint(plane, (300, 400), text_px=1)).astype(int)
    green = np.argwhere(picture[..., 1] - picture[..., 0] > 150)
    lowest, leftmost = green[:, 0].max() / 10, green[:, 1].min() / 10  # its number is above and to the right
    np.testing.assert_allclose((lowest, leftmost), expected, atol=0.2)
    assert not view(an_image(), findings, Window(0, 1), 3).marks


def test_detections_follow_the_planes_of_a_turned_grid():
    """The same voxel as an outline and as a point is at the same place of all three planes."""
    affine = a_turned_affine((1, 2, 0), (-1.0, 1.0, -1.0))
    image = an_image((SIZE,) * 3, affine=affine)
    masks = np.zeros((1, SIZE, SIZE, SIZE), bool)
    masks[0, 4, 9, 20] = True
    findings = Findings(
        masks=masks, segments=segments_of(["A"]), detections=(a_detection("point", [[4, 9, 20]]),)
    )
    for plane in three_planes(image, findings, Window(0, 1)):
        np.testing.assert_array_equal(np.argwhere(plane.regions[0].mask)[0], plane.marks[0].points[0])


def test_images_that_stand_for_themselves_are_shown_where_something_was_found():
    colour = np.zeros((30, 40, 60, 3), np.uint8)
    colour[..., 2] = 120
    image = an_image((30, 40, 60), is_spatial=False, colour=colour, affine=np.diag([1, 0.4, 0.2, 1.0]))
    findings = Findings(detections=(a_detection("box", [[17, 10, 10], [17, 20, 30]]),))
    (plane,) = views_of(image, findings, Window(0, 1))
    assert plane.marks and (plane.pixels[..., 2] == 120).all() and plane.letters == ("", "", "", "")
    assert plane.size_px(400) == (300, 400)  # 12 mm by 16 mm: pixels become square
    everywhere = replace(findings, labelmap=np.ones((30, 40, 60), np.uint8), segments=segments_of(["A"]))
    shown = views_of(image, everywhere, Window(0, 1))
    assert len(shown) == FRAMES_SHOWN and any(plane.marks for plane in shown)
    assert draw_findings(everywhere, {"ct": image}, a_card()).width >= 3 * 200


def test_maps_alone_are_shown_as_heat_where_they_are_high():
    heat = np.zeros((4, 40, 30), np.float32)
    heat[2, 30:36, 20:26] = 0.9
    one = Map(label="Heat", quantity=GREY, unit=GREY, array=heat)
    axial = three_planes(an_image(), Findings(maps=(one,)), Window(0, 1))[0]
    hot = coloured(paint(replace(axial, letters=("", "", "", "")), (300, 400)))
    np.testing.assert_allclose(np.argwhere(hot).mean(axis=0), (330, 230), atol=8)
    assert coloured(draw_findings(Findings(maps=(one,)), {"ct": an_image()}, a_card())).any()


def test_a_map_with_holes_and_infinities_can_be_drawn():
    heat = np.full((4, 40, 30), np.nan, np.float32)
    heat[1, 5, 5], heat[2, 6, 6] = np.inf, -np.inf
    one = Map(label="Odd", quantity=GREY, unit=Code("ms", "UCUM", "ms"), array=heat)
    draw_findings(Findings(maps=(one,)), {"ct": an_image()}, a_card())


def test_the_window_is_that_of_the_header_or_fits_the_image():
    ct = an_image(unit=HU, modality="CT", array=np.full((4, 40, 30), -800, np.float32))
    inside = np.ones((4, 40, 30), bool)
    assert window_of(ct, Window(1, 2)) == (1, 2)
    assert window_of(ct) == SOFT_TISSUE
    assert window_of(ct, outlined=inside) == LUNG_WINDOW
    assert window_of(replace(ct, facts={"BodyPartExamined": "CHEST"})) == LUNG_WINDOW
    assert window_of(replace(ct, facts={"BodyPartExamined": "ABDOMEN"}), outlined=inside) == SOFT_TISSUE
    display = an_image(is_spatial=False, array=np.full((1, 4, 4), 0.5, np.float32))
    assert window_of(display) == (0, 1)
    ramp = np.linspace(0, 1000, 4 * 40 * 30, dtype=np.float32).reshape(4, 40, 30)
    low, high = window_of(an_image(array=ramp))
    assert 0 < low < 20 and 980 < high < 1000
    assert window_of(an_image(array=ramp, modality="PT"))[0] == 0
    assert window_of(an_image(array=np.full((4, 40, 30), np.nan, np.float32))) == (0, 1)


def test_what_the_font_lacks_is_told_in_other_words():
    assert printable("Größe Νεφρός Почка µ³ ≥") == "Größe Νεφρός Почка µ³ ≥"
    assert printable("肝臓", "Liver") == "Liver"
    assert printable("肝臓 A") == "?? A"
    assert printable("two\n lines\t") == "two lines"


def test_the_same_findings_give_the_same_picture():
    findings = Findings(detections=(a_detection("point", [[1, 20, 15]]),))
    first, second = (draw_findings(findings, {"ct": an_image()}, a_card()).tobytes() for _ in range(2))
    assert first == second
