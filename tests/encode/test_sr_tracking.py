"""Under which UID a finding is known again, and that all objects of a job agree on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from node.encode import tracking
from node.encode.material import Material
from node.encode.tracking import tracking_id, tracking_uid
from pipelines.contract import Detection
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    a_card,
    a_job,
    findings_of,
    material_of,
    single_frame_volume,
)
from tests.phantoms import make_affine

SHAPE = (4, 12, 10)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("tracking")
    volume = single_frame_volume(folder, np.zeros(SHAPE, np.int16), make_affine())
    none = np.zeros(SHAPE, bool)
    twin = replace(LEFT_LUNG, number=4)
    segments = [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT, twin]
    findings = findings_of(volume, [none] * 4, segments, measurements=())
    material = material_of(volume, replace(findings, segments=()))
    return replace(material, findings=findings)


def of_a_newer_version(material: Material) -> Material:
    return replace(
        material, job=a_job(job_key="fedcba98" * 8, card=a_card(version="0.2.0", digest="cd" * 32))
    )


def test_an_organ_is_known_again_by_a_newer_version_and_a_lesion_is_not(material: Material) -> None:
    newer = of_a_newer_version(material)
    assert tracking_uid(newer, LEFT_LUNG) == tracking_uid(material, LEFT_LUNG)
    assert tracking_uid(newer, NODULE_SEGMENT) != tracking_uid(material, NODULE_SEGMENT)


def test_another_series_or_pipeline_has_organs_of_its_own(material: Material) -> None:
    volume = replace(material.volume, series_uid="1.2.3")
    elsewhere = replace(material, volumes={"ct": volume})
    assert tracking_uid(elsewhere, LEFT_LUNG) != tracking_uid(material, LEFT_LUNG)
    other = replace(material, job=a_job(card=a_card(name="other-pipeline")))
    assert tracking_uid(other, LEFT_LUNG) != tracking_uid(material, LEFT_LUNG)


def test_no_two_findings_of_a_job_share_a_uid(material: Material) -> None:
    point = Detection(
        number=1,
        label=LEFT_LUNG.label,
        category=LEFT_LUNG.category,
        kind=LEFT_LUNG.kind,
        laterality=LEFT_LUNG.laterality,
        shape="point",
        points=np.zeros((1, 3)),
    )
    again = replace(point, number=2)
    material = replace(material, findings=replace(material.findings, detections=(point, again)))
    uids = [tracking_uid(material, f) for f in (*material.findings.segments, point, again)]
    assert len(set(uids)) == 6


def test_a_new_number_for_the_same_organ_changes_nothing(material: Material) -> None:
    moved = replace(RIGHT_LUNG, number=1)
    other = replace(material, findings=replace(material.findings, segments=(moved,)))
    assert tracking_uid(other, moved) == tracking_uid(material, RIGHT_LUNG)


def test_many_segments_are_not_each_compared_with_all_others(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tuple(replace(LEFT_LUNG, number=n, label=f"rib {n}") for n in range(1, 101))
    material = replace(material, findings=replace(material.findings, segments=many))
    natures: list[object] = []
    nature = tracking._nature
    monkeypatch.setattr(tracking, "_nature", lambda finding: natures.append(finding) or nature(finding))
    assert len({tracking_uid(material, segment) for segment in many}) == len(many)
    assert len(natures) == len(many)


def test_a_tracking_identifier_fits_its_place() -> None:
    long = replace(LEFT_LUNG, label="Left lung " * 10)
    assert len(tracking_id(long)) <= 64
