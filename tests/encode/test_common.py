"""What every result says of itself, whatever the pipeline calls itself."""

from __future__ import annotations

from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.encode.common import described
from node.encode.identity import algorithm_of
from node.encode.kinds import KINDS
from node.profile import Presentation
from tests.encode.helpers import a_card

LONG = "1.2.3+git.0123456789abcdef0123456789abcdef01234567"
TEMPLATES = (
    Presentation.series_description,
    "research {what} by {pipeline}",
    "{what} of {pipeline}-{version}, {pipeline}: for research only",
    "{version} {pipeline} {what} for research at our house",
)


@given(
    template=st.sampled_from(TEMPLATES),
    what=st.sampled_from([kind.what for kind in KINDS.values()]),
    pipeline=st.text(min_size=1, max_size=90),
    version=st.text(min_size=1, max_size=90),
)
def test_a_series_description_never_loses_the_words_of_its_template(
    template: str, what: str, pipeline: str, version: str
) -> None:
    algorithm = algorithm_of(a_card(name=pipeline, version=version))
    told = described(
        Presentation(series_description=template), algorithm.name or "x", algorithm.version, what
    )
    assert len(told) <= 64
    for words, *_ in Formatter().parse(template):
        assert words.strip() in told
    assert what in told


@pytest.mark.parametrize(
    ("pipeline", "version", "told"),
    [
        ("lung-density", "0.1.0", "lung-density 0.1.0 segmentation, research only"),
        ("lung-density", LONG, "lung-density 1.2.3+git.0123456789... segmentation, research only"),
        (40 * "p", "0.1.0", f"{27 * 'p'}... 0.1.0 segmentation, research only"),
        (40 * "p", LONG, f"{15 * 'p'}... 1.2.3+git.0123... segmentation, research only"),
    ],
)
def test_a_long_version_and_a_long_name_share_the_room(pipeline: str, version: str, told: str) -> None:
    assert described(Presentation(), pipeline, version, "segmentation") == told
