"""What no rule wants is kept for a while and then goes; what has open work stays."""

from __future__ import annotations

from datetime import timedelta

from node import flow
from node.accept import spool_file
from node.config import Config
from node.serve import age_out, open_node, utc_now
from tests.toy_node import small_ct


def test_an_unrouted_series_ages_out_with_its_files(tmp_path):
    config = Config().model_copy(
        update={
            "node": Config().node.model_copy(update={"data": tmp_path / "data"}),
            "accept": Config().accept.model_copy(update={"reserve_gb": 0.0}),
        }
    )
    now = [utc_now()]
    with open_node(config, clock=lambda: now[0]) as node:
        for file in small_ct(tmp_path / "ct"):
            instance = flow.receive(*spool_file(file, node.store), node)
        assert flow.plan(instance.series_uid, node) == []
        assert node.journal.status()["unrouted"]["count"] == 1

        now[0] += timedelta(days=config.keep.unrouted_days - 1)
        age_out(node)
        assert instance.path.exists()

        now[0] += timedelta(days=2)
        age_out(node)
        assert not instance.path.exists()
        assert node.journal.series(instance.series_uid) is None
        assert node.journal.status()["instances"] == 0
