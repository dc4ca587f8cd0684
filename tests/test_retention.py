"""What no rule wants is kept for a while and then goes; what has open work stays."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

from node import flow
from node.accept import spool_file
from node.config import Config
from node.loops import age_out
from node.serve import open_node, utc_now
from tests.toy_node import small_ct


def make_config(folder: Path) -> Config:
    return Config().model_copy(
        update={
            "node": Config().node.model_copy(update={"data": folder / "data"}),
            "accept": Config().accept.model_copy(update={"reserve_gb": 0.0}),
        }
    )


def test_an_unrouted_series_ages_out_with_its_files(tmp_path):
    config = make_config(tmp_path)
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


def test_what_is_sent_again_while_it_ages_out_is_kept(tmp_path, monkeypatch):
    config = make_config(tmp_path)
    now = [utc_now()]
    files = small_ct(tmp_path / "ct")
    with open_node(config, clock=lambda: now[0]) as node:
        receive = partial(flow.receive, node=node)
        for file in files:
            series_uid = receive(*spool_file(file, node.store)).series_uid
        flow.plan(series_uid, node)
        now[0] += timedelta(days=config.keep.unrouted_days + 1)
        again = []

        def send_again() -> None:
            again.extend(receive(*spool_file(file, node.store)) for file in files)

        sender = threading.Thread(target=send_again)
        forget = node.journal.forget

        def forget_slowly(uid: str) -> list[Path]:
            """Give the sender all the time it wants between the journal and the files."""
            struck = forget(uid)
            sender.start()
            time.sleep(0.5)
            return struck

        monkeypatch.setattr(node.journal, "forget", forget_slowly)
        age_out(node)
        sender.join()
        assert len(again) == len(files)
        assert all(instance.path.exists() for instance in again)
        assert len(node.journal.series(series_uid).instances) == len(files)
