"""The same inputs give the same bytes, and every kind tells the time as its source does (R-04)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from node.encode import EXTRA_MAKERS, REPORT_MAKERS, encode
from node.model import Outcome
from node.profile import EXTRAS, Profile
from tests.encode.helpers import a_job
from tests.encode.rich import Rich, rich

pytestmark = pytest.mark.long

ALL = tuple(extra for extra in EXTRAS if extra in EXTRA_MAKERS)
PROFILES = [
    *(Profile(report=report, also=ALL) for report in REPORT_MAKERS),
    Profile(labelmap="always", coordinates="patient", also=ALL),
]
#: Dates and times that say when an object was made.
PAIRS = ("InstanceCreation", "Content", "Series", "StructureSet", "PresentationCreation")
MOMENTS = frozenset({"ContributionDateTime"})
DECLARED = MOMENTS | {f"{name}{part}" for name in PAIRS for part in ("Date", "Time")}
#: What is read by people alone says when it was made as well: kind -> where.
TELLS_TIME = {
    "pdf": {"EncapsulatedDocument", "EncapsulatedDocumentLength"},
    "secondary-capture": {"PixelData"},
}
AT = datetime(2026, 3, 4, 20, 6, 7, 890, tzinfo=UTC)  # the next day in Japan


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Rich:
    return rich(tmp_path_factory.mktemp("repeat"), overlap=False)


def run(case: Rich, folder: Path, *profiles: Profile, at: datetime = AT) -> Outcome:
    folder.mkdir()
    job = a_job(created_at=at)
    return encode(job, case.findings, {"ct": case.volume}, folder, profiles)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def files_of(outcome: Outcome) -> set[str]:
    return {thing.path.name for thing in outcome.objects}


def elements(dataset: Dataset, place: str = "") -> Iterator[tuple[str, str, object]]:
    """Yield (place, keyword, value) of everything in a data set."""
    for element in dataset:
        here = f"{place}/{element.keyword or element.tag}"
        if element.VR == "SQ":
            yield here, element.keyword, len(element.value)
            for number, item in enumerate(element.value):
                yield from elements(item, f"{here}[{number}]")
        else:
            yield here, element.keyword, element.value


@pytest.fixture(scope="module")
def first(case: Rich, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("first") / "out"
    return folder, run(case, folder, *PROFILES)


def test_the_same_inputs_give_the_same_bytes(case: Rich, tmp_path: Path, first: tuple[Path, Outcome]) -> None:
    folder, outcome = first
    reports = {kind for makers in REPORT_MAKERS.values() for kind, _ in makers}
    assert {thing.kind for thing in outcome.objects} == {"seg", *ALL, *reports}
    run(case, tmp_path / "second", *PROFILES)
    assert files(tmp_path / "second") == files(folder)


def test_another_time_changes_only_what_tells_the_time(
    case: Rich, tmp_path: Path, first: tuple[Path, Outcome]
) -> None:
    folder, outcome = first
    later = AT + timedelta(days=40, hours=5, minutes=4, seconds=3)
    assert files(folder).keys() == files_of(run(case, tmp_path / "later", *PROFILES, at=later))
    for thing in outcome.objects:
        other = pydicom.dcmread(tmp_path / "later" / thing.path.name)
        pairs = zip(elements(pydicom.dcmread(thing.path)), elements(other), strict=True)
        changed = {a[1] for a, b in pairs if a != b}
        assert changed <= DECLARED | TELLS_TIME.get(thing.kind, set()), thing.kind
        assert {"ContentDate", "ContentTime"} <= changed, thing.kind


@pytest.mark.parametrize("profile", [PROFILES[0], PROFILES[-1]], ids=["first", "last"])
def test_what_is_made_for_several_profiles_together_is_as_made_alone(
    case: Rich, tmp_path: Path, first: tuple[Path, Outcome], profile: Profile
) -> None:
    made = {thing.sop_instance_uid: thing.sha256 for thing in first[1].objects}
    for thing in run(case, tmp_path / "alone", profile).objects:
        assert made[thing.sop_instance_uid] == thing.sha256, thing.kind


@pytest.mark.parametrize("offset", ["+0900", None])
def test_every_kind_tells_the_time_as_its_source_does(tmp_path: Path, offset: str | None) -> None:
    case = rich(tmp_path / "ct", overlap=False)
    for plane in case.volume.slices:
        source = pydicom.dcmread(plane.path)
        if offset:
            source.TimezoneOffsetFromUTC = offset
        source.save_as(plane.path)
    outcome = run(case, tmp_path / "out", *PROFILES[:-1])
    zone: timezone = UTC
    if offset:
        sign = -1 if offset[0] == "-" else 1
        zone = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:])))
    for thing in outcome.objects:
        made = pydicom.dcmread(thing.path)
        assert made.get("TimezoneOffsetFromUTC") == offset, thing.kind
        assert (made.StudyDate, made.StudyTime) == (source.StudyDate, source.StudyTime), thing.kind
        told = list(moments(made, zone))
        assert len(told) >= 3, thing.kind
        for what, moment in told:
            assert abs(moment - AT) < timedelta(seconds=1), f"{thing.kind}: {what}"


def moments(dataset: Dataset, zone: timezone) -> Iterator[tuple[str, datetime]]:
    """Yield every moment at which something of an object is said to have been made."""
    for name in PAIRS:
        if f"{name}Date" in dataset:
            text = str(dataset[f"{name}Date"].value) + str(dataset[f"{name}Time"].value)[:6]
            yield name, datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=zone)
    for element in dataset.iterall():
        if element.keyword in MOMENTS:
            text = str(element.value)
            assert text[-5] in "+-", f"{element.keyword} says no offset"
            yield element.keyword, datetime.strptime(text, "%Y%m%d%H%M%S.%f%z")
