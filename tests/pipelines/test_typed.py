"""A word of a card that is of another type than declared is refused in a sentence, whichever it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.bundle.terms import read_terms
from pipelines.contract import CardError, read_card
from tests.bundle_zoo import ZOO, role, write

CODE = '{ value = "A", scheme = "99T", meaning = "A" }'


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('threshold = "0.5"', "threshold is the text '0.5', not a number"),
        ("threshold = true", "threshold is true or false, not a number"),
        (f"threshold = {10**400}", "threshold is too large a number"),
        ('most = "10"', "most is the text '10', not a whole number"),
        ("most = 10.0", "most is a number, not a whole number"),
        ('values = ["1"]', "an entry of .* values is the text '1', not a whole number"),
        ("values = 1", "values is a whole number, not a list"),
        ('keys = "x"', "keys is the text 'x', not a table"),
        ('roles = "x"', "roles is the text 'x', not a table"),
        ('measure = "x"', "measure is the text 'x', not a table"),
        ('measure = { Bright = "x" }', "measure 'Bright' is the text 'x', not a list"),
        ('pins = "x"', "pins is the text 'x', not a table"),
        ("pins = { a = 1 }", "pins 'a' is a whole number, not a text"),
        ('overrides = "x"', "overrides is the text 'x', not a table"),
        ("remove = 3", "remove is a whole number, not a list"),
        ("expects = 3", "expects is a whole number, not a list"),
        ("expects = [3]", r"\[\[bundle.expects\]\] is a whole number, not a table"),
        ('expects = [{ code = 3, sentence = "", object = [1, 2] }]', "code is a whole number, not a text"),
        ('expects = [{ code = "", sentence = "", object = [1] }]', "object has 1 entries, not 2"),
        ('expects = [{ code = "", sentence = "", object = [2, 1] }]', "is empty"),
        (
            'expects = [{ code = "", sentence = "", object = [1, 2], percentiles = { half = [1, 2] } }]',
            "'half' is no percent",
        ),
        ("config = 3", "config is a whole number, not a list"),
        ("config = [3]", "an entry of .* config is a whole number, not a text"),
        ("weights = 3", "weights is a whole number, not a text"),
        ("folder = 3", "folder is a whole number, not a text"),
        ("channels = [1]", "an entry of .* channels is a whole number, not a text"),
        ('nothing = ["a"]', "an entry of .* nothing is the text 'a', not a whole number"),
        ('background = "no"', "background is the text 'no', not true or false"),
        ('padding = "x"', "padding is the text 'x', not a number"),
        ('unused = "12"', "unused is the text '12', not a list"),
        ("each = []", "each is one of case, slice, phase, not"),
        ("explain = {}", "explain is one of"),
        ("frame = []", "frame is one of"),
        ("unit = 3", "unit is a whole number, not a table"),
        ('unit = { value = "1" }', "unit lacks the key 'scheme'"),
        ("finds = 3", "finds is a whole number, not a list"),
        (f"finds = [{{ label = 3, code = {CODE} }}]", "label is a whole number, not a text"),
        ('box_keys = ["a"]', "box_keys has 1 entries, not 3"),
    ],
)
def test_a_wrong_type_in_the_table_of_a_bundle(tmp_path: Path, line: str, told: str) -> None:
    card = write(tmp_path, replace(ZOO["labels"], terms=f"{ZOO['labels'].terms}\n{line}"))
    with pytest.raises(CardError, match=rf"^tiny: .*{told}"):
        read_terms(card)


def test_an_output_that_is_no_word_is_told_as_an_unknown_one(tmp_path: Path) -> None:
    card = write(tmp_path, replace(ZOO["labels"], terms="output = []"))
    with pytest.raises(CardError, match="output must be one of"):
        read_terms(card)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('slices_min = "5"', "slices_min is the text '5', not a whole number"),
        ('slices_max = "5"', "slices_max is the text '5', not a whole number"),
        ("age_years = 3", "age_years is a whole number, not a list"),
        ('age_years = ["a", "b"]', "an entry of .* age_years is the text 'a', not a number"),
        ('needs_age = "no"', "needs_age is the text 'no', not true or false"),
        ("select = 3", "select is a whole number, not a table"),
        ("grid = []", "grid is one of same, resample, any, not"),
        ("study = 1", "study is one of"),
        ("spacing_mm = [1, 2]", "spacing_mm is a list, not a table"),
        ("spacing_mm = { slice = [1] }", "spacing_mm 'slice' has 1 entries, not 2"),
        ("spacing_mm = { depth = [1, 2] }", "no axis 'depth'"),
        ('segments = "a"', "segments is the text 'a', not a list"),
        ("colour = 1", "has no 'colour'; it knows modality"),
    ],
)
def test_a_wrong_type_in_an_input(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(CardError, match=f"card.toml: .*{told}"):
        write(tmp_path, replace(ZOO["labels"], inputs=[f"{role('ct')}\n{line}"]))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('title = "Bundle tiny"', "title = 3", "title is a whole number, not a text in quotes"),
        ('title = "Bundle tiny"', "", "lacks the key 'title'"),
        ('title = "Bundle tiny"', 'title = ""\nname_of = ""', "has no 'name_of'"),
        ('title = "Bundle tiny"', 'title = ""\nfolder = "/"', "folder is found by the node"),
        ('title = "Bundle tiny"', 'title = ""\ndetects = 3', "detects is a whole number, not a list"),
        ('title = "Bundle tiny"', 'title = ""\ndetects = ["x"]', "detects is the text 'x', not a table"),
        ('title = "Bundle tiny"', 'title = ""\nparameters = 3', "parameters is a whole number, not a table"),
        ('measure = ["volume", "mean"]', 'measure = "volume"', "measure is the text 'volume', not a list"),
        ('modality = ["CT"]', 'modality = "CT"', "modality is the text 'CT', not a list"),
        ("number = 1", 'number = "1"', "number is the text '1', not a whole number"),
        ("number = 1", "number = 1\ncolour_rgb = [1, 2]", "colour_rgb has 2 entries, not 3"),
        ("number = 1", "number = 1\nstructure = []", "structure is a name"),
        ("number = 1", "number = 1\nlaterality = 3", "laterality is a whole number, not a table"),
        ("number = 1", "number = 2", "numbered 1, 2, 3"),
    ],
)
def test_a_wrong_type_in_the_card_itself(tmp_path: Path, old: str, new: str, told: str) -> None:
    card = write(tmp_path, ZOO["labels"])
    text = (card.folder / "card.toml").read_text()
    assert old in text
    (tmp_path / "card.toml").write_text(text.replace(old, new))
    with pytest.raises(CardError, match=f"card.toml: .*{told}"):
        read_card(tmp_path / "card.toml")


def test_a_whole_number_does_where_a_number_is_wanted(tmp_path: Path) -> None:
    card = write(tmp_path, replace(ZOO["labels"], terms='output = "labels"\nthreshold = 1'))
    assert read_terms(card).threshold == 1.0
