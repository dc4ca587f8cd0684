"""Workers for the host read what strangers sent: an exploit of a decoder gets no further than its job."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.compute import Task
from node.compute.sandbox import landlock
from node.errors import PipelineFailed
from tests.compute.conftest import make_engine
from tests.compute.malicious_pipelines import task as pipelines_task
from tests.compute.malicious_pipelines import write_hostile
from tests.compute.unconfined import changed

SECRETS = ("journal.sqlite", "key", "results/1-1/seg.dcm", "staging/2-1/seg.dcm", "scratch/job-2-1/case.json")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with something in it that is worth something to somebody else."""
    folder = tmp_path / "data"
    for name in (*SECRETS, "instances/ab/1.dcm"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"canary")
    return folder


def pry(data: Path) -> dict[str, list[str]]:
    """Have a worker of the host do what code in the place of a decoder would try; return what it could."""
    sources = [data / "instances"]
    engine = make_engine(data / "scratch", sources=[*sources, Path(__file__).parents[1]])
    task = Task(
        key="toy",
        place="host",
        job_id=1,
        target="tests.compute.toys:work",
        payload={"do": "pry", "data": str(data), "secrets": SECRETS, "sources": [*map(str, sources)]},
    )
    try:
        return engine.run(task, timeout_s=200, on_progress=lambda *_: None)["could"]
    finally:
        engine.close()


@pytest.mark.skipif(landlock.version() < 1, reason="needs a kernel with Landlock")
def test_what_decodes_pixels_reaches_neither_journal_nor_network_nor_other_jobs(data):
    assert pry(data) == ["read its instances", "write into its own folder"]
    assert {(data / name).read_bytes() for name in SECRETS} == {b"canary"}
    assert (data / "instances" / "ab" / "1.dcm").read_bytes() == b"canary"


def test_where_the_kernel_shuts_nothing_in_our_own_code_is_run_all_the_same_and_it_is_told(
    data, tmp_path, capsys
):
    scratch = data / "scratch"
    with changed(scratch):
        assert "read journal.sqlite" in pry(data)
        assert "worker_not_confined" in "".join(capsys.readouterr())
        hostile = write_hostile(tmp_path / "pipelines", "outside")
        engine = make_engine(scratch, readable=[hostile.folder.parent])
        with pytest.raises(PipelineFailed, match="not run in a worker that is not shut in"):
            engine.run(
                pipelines_task(hostile, tmp_path / "exchange", 1), timeout_s=200, on_progress=lambda *_: None
            )
        engine.close()
