"""The workers that decode pixels: who may wait for one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from node.darkroom import QUEUE, WORKERS, Crowded, Darkroom
from node.errors import NodeStopping
from tests.harness import wait_until


def test_so_many_wait_for_a_worker_and_who_comes_on_top_hears_it_at_once(tmp_path: Path) -> None:
    room = Darkroom(tmp_path / "dark", (tmp_path,), "off")
    heard = []

    def ask() -> None:
        try:
            with room.develop("frames", tmp_path / "file", {}):
                pass
        except (Crowded, NodeStopping) as error:
            heard.append(type(error))

    busy = [room._take() for _ in range(WORKERS)]
    waiting = [threading.Thread(target=ask) for _ in range(QUEUE)]
    for one in waiting:
        one.start()
    wait_until(lambda: room._waiting == QUEUE, "they wait", within_s=20)
    with pytest.raises(Crowded):
        room._take()
    assert not heard
    room._idle.extend(busy)
    room.close()
    for one in waiting:
        one.join(20)
    assert heard == [NodeStopping] * QUEUE
    assert room._waiting == 0
