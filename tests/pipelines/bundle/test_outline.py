"""Label maps, one-hot and overlapping channels become outlines; anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bundles import (
    INVERT,
    LOAD,
    RAS,
    SAVE,
    loaded,
    phantom_case,
    threshold_metadata,
    with_steps,
    write_bundle,
)


def test_one_hot_overlapping_and_unusual_label_values(tmp_path):
    metadata = threshold_metadata()
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {}
    case, _, _ = phantom_case()
    array = case["ct"].array
    body, bright = array > -500, array > 200

    def run(name, func, output):
        steps = [INVERT, {"_target_": "Lambdad", "keys": "pred", "func": func}, SAVE]
        card = write_bundle(
            tmp_path / name,
            with_steps([*LOAD, RAS], steps),
            metadata=metadata,
            labels=("Body", "Bright"),
            bundle=output,
        )
        return loaded(card).analyze(case)

    exclusive = "$lambda x: torch.cat([x <= -500, (x > -500) & (x <= 200), x > 200]).float()"
    found = run("one-hot", exclusive, 'output = "one-hot"')
    assert np.array_equal(found.labelmap, body.astype(int) + bright)
    overlapping = "$lambda x: torch.cat([x > -500, x > 200]).float()"
    found = run("channels", overlapping, 'output = "channels"')
    assert found.labelmap is None
    assert np.array_equal(found.masks, np.stack([body, bright]))
    values = "$lambda x: (x > -500).float() * 4 - (x > 200).float() * 3"
    found = run("values", values, 'output = "labels"\nvalues = [4, 1]')
    assert np.array_equal(found.labelmap, body.astype(int) + bright)
    for name, func, output, complaint in (
        ("overlap", overlapping, 'output = "one-hot"\nbackground = false', "overlap"),
        ("many", exclusive, 'output = "labels"', "one channel"),
        ("few", overlapping, 'output = "one-hot"', "describes 3"),
        ("soft", "$lambda x: torch.cat([x, x]) / 1000", 'output = "channels"', "not 0 or 1"),
        ("half", "$lambda x: (x > 200).float() * 1.5", 'output = "labels"', "fractions"),
        ("unknown", "$lambda x: (x > 200).float() * 7", 'output = "labels"', "outside"),
        ("gap", values, 'output = "labels"\nvalues = [4, 2]', "gives no meaning"),
        ("nan", "$lambda x: x * float('nan')", 'output = "labels"', "outside"),
    ):
        with pytest.raises(ValueError, match=complaint):
            run(name, func, output)
