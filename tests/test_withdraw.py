"""An operator takes results back: a rejection note goes wherever they went, and nowhere else."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import highdicom
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pynetdicom import evt

from node import flow
from node.accept import spool_file
from node.config import read_config
from node.encode.attributes import PATIENT, PATIENT_STUDY, STUDY
from node.encode.rejection import KEY_OBJECT_SELECTION_CLASS, TITLES, write_rejection
from node.errors import NodeError
from node.job import JobInput, JobSpec, JobState, Withdrawal
from node.loops import age_out
from node.profile import Presentation
from node.serve import open_node, utc_now
from node.withdraw import withdraw
from tests import toy_node
from tests.encode.helpers import LEFT_LUNG, RIGHT_LUNG, encoded, findings_of, single_frame_volume
from tests.encode.judges import dciodvfy_errors, dsrdump, needs_dciodvfy, needs_dsrdump
from tests.harness import wait_until
from tests.orthanc import Orthanc, missing
from tests.peers import RESULT_CLASSES, RecordingPacs
from tests.phantoms import asymmetric_phantom, make_affine
from tests.storescp import Storescp
from tests.toy_node import RESULTS_PER_JOB, read, send, small_ct

pytestmark = pytest.mark.long

NOW = datetime(2026, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
SPEC = JobSpec(
    pipeline="lung-density",
    pipeline_version="0.1.0",
    pipeline_digest="ab" * 32,
    study_uid="",
    inputs={"ct": JobInput(series_uid="1.2.3", revision=1, sop_instance_uids=("1.2.3.1",))},
    input_digest="cd" * 32,
    rule="r",
    send_to=("archive",),
)


class Archive(RecordingPacs):
    """Takes key objects as well."""

    def __init__(self, **more) -> None:
        super().__init__(sop_classes=(*RESULT_CLASSES, KEY_OBJECT_SELECTION_CLASS), **more)

    def notes(self) -> list[pydicom.Dataset]:
        mine = [one for one in self.received if one.sop_class_uid == KEY_OBJECT_SELECTION_CLASS]
        return [read(one.data) for one in mine]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return results of every kind that a viewer gets, and the volume they were made of."""
    folder = tmp_path_factory.mktemp("withdraw")
    affine = make_affine()
    mask = asymmetric_phantom((6, 32, 40), affine).mask
    headers = {"TimezoneOffsetFromUTC": "+0900", "AccessionNumber": "A-1"}
    volume = single_frame_volume(folder / "ct", mask.astype("int16") * 1000, affine, headers=headers)
    other = mask.copy()
    mask[:3], other[3:] = False, False
    findings = findings_of(volume, [mask, other], [LEFT_LUNG, RIGHT_LUNG])
    return encoded(volume, findings, folder / "out").objects, volume


def a_note(
    made, folder: Path, reason=Withdrawal.QUALITY, *, things=None, now=NOW, like=None, number=1, **more
):
    objects, volume = made
    folder.mkdir(exist_ok=True)
    return write_rejection(
        objects if things is None else things,
        reason,
        replace(SPEC, study_uid=volume.study_uid),
        like or objects[-1].path,
        folder / f"{reason}.dcm",
        now=now,
        number=number,
        ae_title="RADNODE",
        presentation=more.get("presentation", Presentation()),
    )


def references(note: pydicom.Dataset) -> set[tuple[str, str]]:
    return {
        (str(ref.ReferencedSOPClassUID), str(ref.ReferencedSOPInstanceUID))
        for content in note.ContentSequence
        for ref in content.get("ReferencedSOPSequence", ())
    }


def evidence(note: pydicom.Dataset) -> set[tuple[str, str, str]]:
    return {
        (str(series.SeriesInstanceUID), str(ref.ReferencedSOPClassUID), str(ref.ReferencedSOPInstanceUID))
        for study in note.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for ref in series.ReferencedSOPSequence
    }


def identities(objects) -> set[tuple[str, str, str]]:
    return {(o.series_uid, o.sop_class_uid, o.sop_instance_uid) for o in objects}


@needs_dciodvfy
@needs_dsrdump
@pytest.mark.parametrize("reason", list(Withdrawal))
def test_every_note_is_valid_and_says_why(made, tmp_path, reason):
    note = a_note(made, tmp_path, reason)
    assert dciodvfy_errors(note.path) == []
    printed, complaints = dsrdump(note.path)
    # DCMTK says of every Key Object Selection that it does not look at the template.
    assert complaints == ["W: Check for template constraints not yet supported"]
    assert TITLES[reason].meaning in printed
    dataset = pydicom.dcmread(note.path)
    assert dataset.ConceptNameCodeSequence[0].CodeValue == TITLES[reason].value
    assert (dataset.Modality, dataset.SeriesNumber) == ("KO", 9013)
    assert dataset.SeriesDescription == "lung-density 0.1.0 rejection, research only"


def test_the_titles_are_those_of_the_standard():
    for code in TITLES.values():
        (name,) = [n for n in codes.cid7010.dir() if getattr(codes.cid7010, n).value == code.value]
        assert getattr(codes.cid7010, name).meaning == code.meaning


def test_a_note_rejects_exactly_what_it_was_given_and_its_evidence_says_the_same(made, tmp_path):
    objects, _ = made
    for things in (objects, objects[:1], objects[1:]):
        note = pydicom.dcmread(a_note(made, tmp_path, things=things).path)
        assert references(note) == {(t.sop_class_uid, t.sop_instance_uid) for t in things}
        assert evidence(note) == identities(things)


def test_highdicom_reads_the_same_of_a_note(made, tmp_path):
    objects, volume = made
    note = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(a_note(made, tmp_path).path))
    assert note.content[0].name.meaning == "Rejected for Quality Reasons"
    found = set()
    for ref in note.content.get_references():
        uid = ref.referenced_sop_instance_uid
        study, series, _ = note.resolve_reference(uid)
        assert study == volume.study_uid
        found.add((series, ref.referenced_sop_class_uid, uid))
    assert found == identities(objects)


def test_a_note_says_of_patient_and_study_what_the_results_said_whatever_it_is_made_like(made, tmp_path):
    objects, volume = made
    result = pydicom.dcmread(objects[0].path)
    for number, like in enumerate([*(o.path for o in objects), volume.slices[0].path]):
        note = pydicom.dcmread(a_note(made, tmp_path / str(number), like=like).path)
        for attribute in (*PATIENT, *STUDY, *PATIENT_STUDY):
            assert note.get(attribute.keyword) == result.get(attribute.keyword), attribute.keyword
        assert note.StudyInstanceUID == result.StudyInstanceUID
        assert note.SpecificCharacterSet == "ISO_IR 192"
        assert note.TimezoneOffsetFromUTC == "+0900"
        assert (note.ContentDate, note.ContentTime) == ("20260506", "160809.000010")


def test_the_name_of_a_note_follows_from_job_reason_set_and_time(made, tmp_path):
    objects, _ = made
    first = a_note(made, tmp_path / "a")
    assert a_note(made, tmp_path / "b").path.read_bytes() == first.path.read_bytes()
    later = a_note(made, tmp_path / "c", now=NOW + timedelta(days=1))
    other = [
        a_note(made, tmp_path / "d", Withdrawal.SAFETY),
        a_note(made, tmp_path / "e", things=objects[:2]),
        a_note(made, tmp_path / "f", presentation=Presentation(series_number=700)),
        a_note(made, tmp_path / "g", number=2),  # of another Series Number, so of another content
    ]
    # The same work may be done and withdrawn again after it has aged out: another note.
    assert len({n.sop_instance_uid for n in (first, later, *other)}) == 6
    assert len({n.series_uid for n in (first, later, *other)}) == 6


# ---- a running node ----


@pytest.fixture
def archive():
    with Archive() as peer:
        yield peer


@pytest.fixture
def node(tmp_path, archive):
    made = toy_node.make_node(tmp_path / "node", archive.port)
    made.start()
    yield made
    made.kill()


def test_a_running_node_delivers_the_rejection_of_exactly_what_it_sent(node, archive, tmp_path):
    send(small_ct(tmp_path / "ct"), node.port)
    node.wait_idle()
    results = {(o.sop_class_uid, o.sop_instance_uid) for o in archive.received}
    assert len(results) == RESULTS_PER_JOB

    said = node.run("withdraw", "1", "--reason", "quality").stdout
    assert "withdrew the results (quality); a rejection goes to archive" in " ".join(said.split())
    node.wait_idle()
    (note,) = archive.notes()
    assert references(note) == results
    assert note.PatientID == read(archive.received[0].data).PatientID

    assert "withdrawn (quality) at " in node.run("status").stdout
    (file, *_) = (tmp_path / "ct").iterdir()
    told = node.run("explain", str(pydicom.dcmread(file).SeriesInstanceUID)).stdout
    assert "withdrawn (quality) at " in told
    told = node.run("withdraw", "1", "--reason", "whim", ok=False)
    assert told.returncode == 2
    assert all(reason.value in told.stderr for reason in Withdrawal)
    assert "no job 7" in node.run("withdraw", "7", "--reason", "quality", ok=False).stderr
    again = node.run("withdraw", "1", "--reason", "safety", ok=False)
    assert again.returncode == 1
    assert "withdrawn already (quality) at " in " ".join(again.stderr.split())
    assert len(archive.notes()) == 1


@pytest.mark.slow
def test_a_rejection_survives_the_death_of_the_node(node, archive, tmp_path):
    send(small_ct(tmp_path / "ct"), node.port)
    node.wait_idle()
    node.kill()
    node.run("withdraw", "1", "--reason", "safety")
    assert archive.notes() == []
    node.start({"RADNODE_FAILPOINTS": "send.answered=kill"})
    node.wait_dead()
    node.start()
    node.wait_idle()
    notes = archive.notes()
    assert len({note.SOPInstanceUID for note in notes}) == 1
    assert notes[0].ConceptNameCodeSequence[0].CodeValue == "113037"
    assert node.status()["jobs"]["done"] == 1


class Hesitant(Archive):
    """Is out of resources once, and lets nobody in after that until it has ``recovered``."""

    def __init__(self) -> None:
        super().__init__(status=self._hesitate)
        self.recovered = threading.Event()
        self._tried = False
        self._server.bind(evt.EVT_REQUESTED, self._let_in)

    def _hesitate(self, _number, _request) -> int:
        self._tried = True
        return 0x0000 if self.recovered.is_set() else 0xA700

    def _let_in(self, _event) -> None:
        if self._tried:
            self.recovered.wait()

    def stop(self) -> None:
        self.recovered.set()
        super().stop()


def test_what_an_archive_has_not_taken_yet_is_not_sent_after_a_withdrawal(tmp_path):
    with Hesitant() as archive:
        node = toy_node.make_node(tmp_path / "node", archive.port)
        node.start()
        try:
            send(small_ct(tmp_path / "ct"), node.port)
            wait_until(lambda: node.status()["deliveries"]["troubled"], "the first try has failed")
            # From now on, no try gets further than its request for an association.
            said = node.run("withdraw", "1", "--reason", "quality").stdout
            assert "nothing is sent" in " ".join(said.split())
            archive.recovered.set()
            send(small_ct(tmp_path / "next", seed="next"), node.port)
            assert node.wait_idle()["jobs"]["done"] == 2
            refused, *taken = archive.received
            assert len(taken) == RESULTS_PER_JOB
            (study,) = {read(one.data).StudyInstanceUID for one in taken}
            assert study != read(refused.data).StudyInstanceUID
        finally:
            node.kill()


class Thoughtful(Archive):
    """Has a result, but does not say so before it is ``sure``."""

    def __init__(self) -> None:
        super().__init__()
        self.sure = threading.Event()

    def answer(self, event, number, request):
        self.sure.wait()
        return super().answer(event, number, request)

    def stop(self) -> None:
        self.sure.set()
        super().stop()


def test_what_is_under_way_at_a_withdrawal_is_rejected(tmp_path):
    with Thoughtful() as archive:
        node = toy_node.make_node(tmp_path / "node", archive.port)
        node.start()
        try:
            send(small_ct(tmp_path / "ct"), node.port)
            wait_until(lambda: archive.received, "the first result is under way")
            said = node.run("withdraw", "1", "--reason", "quality").stdout
            assert "a rejection goes to archive" in " ".join(said.split())
            archive.sure.set()
            assert node.wait_idle()["jobs"]["done"] == 1
            (note,) = archive.notes()
            *results, last = archive.received
            assert last.sop_instance_uid == note.SOPInstanceUID
            assert {(one.sop_class_uid, one.sop_instance_uid) for one in results} <= references(note)
            assert len(references(note)) == RESULTS_PER_JOB, "any of them may have arrived"
        finally:
            node.kill()


# ---- real archives ----


@contextmanager
def dcmtk_archive(folder: Path):
    """DCMTK's storescp; yields its port and what tells the data sets it has."""
    with Storescp(folder / "storescp", "+uf") as scp:
        yield scp.port, lambda: [pydicom.dcmread(file) for file in scp.stored()]


@contextmanager
def orthanc_archive(folder: Path):
    """Debian's Orthanc; yields the same."""
    if package := missing():
        pytest.skip(f"{package} is missing: apt-get install {package}")
    with Orthanc(folder) as orthanc:
        yield orthanc.dicom_port, orthanc.held


@pytest.mark.parametrize("real_archive", [dcmtk_archive, orthanc_archive])
def test_a_real_archive_takes_the_rejection(tmp_path, real_archive):
    with real_archive(tmp_path) as (port, held):
        node = toy_node.make_node(tmp_path / "node", port)
        node.start()
        try:
            send(small_ct(tmp_path / "ct"), node.port)
            node.wait_idle()
            results = {(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in held()}
            assert len(results) == RESULTS_PER_JOB
            node.run("withdraw", "1", "--reason", "worklist")
            node.wait_idle()
            assert node.status()["jobs"]["done"] == 1, node.status()["failed"]
            (note,) = [one for one in held() if one.SOPClassUID == KEY_OBJECT_SELECTION_CLASS]
            assert note.ConceptNameCodeSequence[0].CodeValue == "113038"
            assert references(note) == results
        finally:
            node.kill()


# ---- what is left when files are gone ----


def aged_job(tmp_path, now):
    """Return an open node's context with one job whose results a folder took."""
    config_file = tmp_path / "node.toml"
    made = toy_node.make_node(tmp_path, 11113)
    made.config.write_text(
        made.config.read_text().replace('send_to = ["archive"]', 'send_to = ["shelf"]')
        + f'\n[destinations.shelf]\ntransport = "folder"\npath = "{tmp_path}/shelf"\n'
    )
    return read_config(config_file), open_node(read_config(config_file), clock=lambda: now[0])


def analyzed(node, files):
    for file in files:
        instance = flow.receive(*spool_file(file, node.store), node)
    flow.plan(instance.series_uid, node)
    job = node.journal.claim(node.clock())
    flow.compute(job, node, lambda *_: None)
    deliver_all(node)
    return node.journal.job(job.id)


def deliver_all(node):
    for owed in node.journal.due(node.clock()):
        flow.deliver(owed, node)


def test_results_that_aged_out_are_withdrawn_while_something_of_the_study_is_held(tmp_path):
    now = [utc_now()]
    config, opened = aged_job(tmp_path, now)
    with opened as node:
        job = analyzed(node, small_ct(tmp_path / "ct"))
        assert job.state is JobState.DONE, job.reason
        results = {path.name for path in (tmp_path / "shelf").iterdir()}
        now[0] += timedelta(days=config.keep.done_days + 1)
        age_out(node)
        with pytest.raises(NodeError, match="Send an image of the study"):
            withdraw(job.id, Withdrawal.QUALITY, node.journal, config, node.clock)
        scout = small_ct(tmp_path / "other", seed="flow", slices=4)
        (first,) = scout[:1]
        flow.receive(*spool_file(first, node.store), node)
        withdraw(job.id, Withdrawal.QUALITY, node.journal, config, node.clock)
        deliver_all(node)
        assert node.journal.job(job.id).state is JobState.DONE
        (new,) = {path.name for path in (tmp_path / "shelf").iterdir()} - results
        note = pydicom.dcmread(tmp_path / "shelf" / new)
        assert {f"{uid}.dcm" for _, uid in references(note)} == results
        node.staging.sweep(node.journal.result_paths())
        assert [thing.path.exists() for thing in node.journal.results(job.id)][-1]


def test_what_happens_while_the_notes_are_written_loses_nothing(tmp_path, monkeypatch):
    now = [utc_now()]
    config, opened = aged_job(tmp_path, now)
    with opened as node:
        job = analyzed(node, small_ct(tmp_path / "ct"))
        with monkeypatch.context() as patch:  # cut off before it was written down: nothing happened
            patch.setattr(node.journal, "withdraw", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                withdraw(job.id, Withdrawal.SAFETY, node.journal, config, node.clock)
        assert node.journal.job(job.id) == job
        assert node.journal.due(now[0]) == []

        whole = node.journal.to_reject

        def less_at_first(job_id):  # the destination took more a moment later
            node.journal.to_reject = whole
            return {place: things[:1] for place, things in whole(job_id).items()}

        now[0] += timedelta(seconds=1)
        node.journal.to_reject = less_at_first
        withdraw(job.id, Withdrawal.SAFETY, node.journal, config, node.clock)
        (note,) = [thing for thing in node.journal.results(job.id) if thing.kind == "rejection-note"]
        assert len(note.refers_to) == RESULTS_PER_JOB
        assert [len(owed.objects) for owed in node.journal.due(now[0])] == [1]
        left = {path.name for path in note.path.parent.glob("rejection-*.dcm")}
        assert left == {note.path.name}, "that of the withdrawal that was cut off is gone"
