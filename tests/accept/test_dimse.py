"""The DIMSE door, driven by honest senders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
import structlog
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.acse import ACSE
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from node.accept.classes import chosen_classes, storage_classes
from node.accept.dimse import DimseDoor
from node.config import AcceptTable
from node.errors import ConfigError, ContentConflict
from tests.accept.conftest import (
    echo,
    encoded,
    eventually,
    make_ct,
    send,
    stored_data_set,
)
from tests.accept.raw import (
    CT,
    EXPLICIT,
    VERIFICATION,
    RawPeer,
    associate_rq,
    p_data,
    pdu,
    status_in,
    store_rq,
)
from tests.harness import program
from tests.paths import REPOSITORY, SHARED, needs_shared

FAST = {**os.environ, "TCP_NODELAY": "1"}  # DCMTK: do not let Nagle wait for delayed ACKs


def test_dcmtk_echo_is_answered(open_door):
    door = open_door()
    done = subprocess.run([program("echoscu"), "127.0.0.1", str(door.port)], env=FAST, timeout=20)
    assert done.returncode == 0


@pytest.mark.parametrize("tool", ["storescu", "dcmsend"])
def test_what_dcmtk_sends_is_stored_byte_for_byte(tool, open_door, tmp_path):
    door = open_door()
    files = []
    for number in range(5):
        ds = make_ct(rows=64, InstanceNumber=number)
        files.append(tmp_path / f"{number}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    done = subprocess.run(
        [program(tool), "127.0.0.1", str(door.port), *map(str, files)], env=FAST, timeout=30, check=False
    )
    assert done.returncode == 0
    assert sorted(map(stored_data_set, door.kept)) == sorted(encoded(pydicom.dcmread(f)) for f in files)


def test_what_is_stored_is_a_part_10_file_with_our_own_head(open_door):
    door = open_door()
    ds = make_ct()
    ds.preamble = b"MZ" + bytes(126)
    ds.file_meta.PrivateInformationCreatorUID = "1.2.3"
    ds.file_meta.PrivateInformation = b"secret"
    assert send(door.port, ds)[0].Status == 0
    (instance,) = door.kept
    raw = instance.path.read_bytes()
    assert raw[:132] == bytes(128) + b"DICM"
    assert b"secret" not in raw
    meta = pydicom.dcmread(instance.path).file_meta
    assert meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert meta.ImplementationVersionName.startswith("RADNODE")
    assert instance.path.stat().st_mode & 0o777 == 0o640
    assert instance.sender == "HONEST"
    assert instance.size_bytes == len(encoded(ds))


def test_the_same_object_sent_three_times_is_one_file_and_success_each_time(open_door):
    door = open_door()
    ds = make_ct()
    assert [a.Status for a in send(door.port, ds, ds, ds)] == [0, 0, 0]
    assert len({i.path for i in door.kept}) == 1
    assert len(list(door.data.glob("instances/*/*"))) == 1


def test_success_is_said_only_after_receive_has_returned(open_door):
    door = open_door()
    order = []
    door.before_keeping = lambda: (time.sleep(0.3), order.append("kept"))
    assert send(door.port, make_ct())[0].Status == 0
    order.append("answered")
    assert order == ["kept", "answered"]


def test_a_bug_in_receive_is_answered_as_our_own_failure_and_the_next_object_works(open_door):
    door = open_door()

    def fail_once():
        door.before_keeping = lambda: None
        raise KeyError("patient name")

    door.before_keeping = fail_once
    first, second = send(door.port, make_ct(), make_ct())
    assert (first.Status, second.Status) == (0x0110, 0)
    assert "patient" not in first.ErrorComment


def test_a_conflict_is_answered_as_a_duplicate(open_door):
    door = open_door()

    def conflict():
        raise ContentConflict

    door.before_keeping = conflict
    (answer,) = send(door.port, make_ct())
    assert answer.Status == 0x0111
    assert len(answer.ErrorComment) <= 64


@needs_shared
def test_a_real_study_arrives_whole_from_dcmsend(open_door):
    door = open_door()
    folder = SHARED / "ct_chest_philips_5mm"
    done = subprocess.run(
        [program("dcmsend"), "127.0.0.1", str(door.port), *map(str, sorted(folder.rglob("*.dcm")))],
        env=FAST,
        timeout=60,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0
    sent = {pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for f in folder.rglob("*.dcm")}
    assert {i.sop_instance_uid for i in door.kept} == sent
    assert len(sent) == 64


@needs_shared
def test_compressed_objects_are_stored_as_they_were_sent(open_door):
    door = open_door()
    files = [
        path
        for path in sorted((SHARED / "mr_ct_vendor_snippets").rglob("*"))
        if path.is_file()
        and pydicom.misc.is_dicom(path)
        and pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == JPEG2000Lossless
    ]
    assert files
    done = subprocess.run(
        [program("storescu"), "-xv", "127.0.0.1", str(door.port), *map(str, files)],
        env=FAST,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    assert {i.transfer_syntax_uid for i in door.kept} == {JPEG2000Lossless}
    for path, instance in zip(files, door.kept, strict=True):
        assert pydicom.dcmread(instance.path).PixelData == pydicom.dcmread(path).PixelData


def test_every_standard_storage_class_is_accepted(open_door):
    door = open_door()
    classes = sorted(storage_classes().values())
    for some in (classes[:120], classes[120:]):
        ae = AE()
        for uid in some:
            ae.add_requested_context(uid, ExplicitVRLittleEndian)
        association = ae.associate("127.0.0.1", door.port)
        assert association.is_established
        assert [c.abstract_syntax for c in association.rejected_contexts] == []
        association.release()


def test_classes_which_pynetdicom_or_pydicom_lacks_are_stored(open_door):
    door = open_door()
    for uid in (
        "1.2.840.10008.5.1.4.1.1.66.7",
        "1.2.840.10008.5.1.4.1.1.30",
        "1.2.840.10008.5.1.4.1.1.104.3",
    ):
        ds = make_ct(SOPClassUID=uid)
        assert send(door.port, ds)[0].Status == 0
        assert door.kept[-1].sop_class_uid == uid


def test_unknown_classes_lose_their_context_and_not_the_association(open_door):
    door = open_door(dimse={"sop_classes": ("CTImageStorage",)})
    ae = AE()
    ae.add_requested_context("1.2.3.4.5", ExplicitVRLittleEndian)
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.4", ExplicitVRLittleEndian)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", door.port)
    assert [c.abstract_syntax for c in association.accepted_contexts] == [CTImageStorage]
    association.release()


def test_role_selection_is_survived(open_door):
    door = open_door()
    ae = AE()
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = CTImageStorage
    role.scu_role, role.scp_role = True, True
    association = ae.associate("127.0.0.1", door.port, ext_neg=[role])
    assert association.is_established
    association.release()


def test_a_wrong_class_in_the_configuration_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'CTImageStorag'.*did you mean 'CTImageStorage'") as caught:
        chosen_classes(["CTImageStorag", "1.2.840.10008.5.1.4.1.1.9999"])
    assert "9999" in str(caught.value)
    assert chosen_classes(["MRImageStorage", "1.2.276.0.99"]) == ("1.2.840.10008.5.1.4.1.1.4", "1.2.276.0.99")


def test_only_listed_callers_get_in(open_door):
    door = open_door(callers=("MODALITY",))
    assert echo(door.port) is None
    assert send(door.port, make_ct(), calling="MODALITY")[0].Status == 0


def test_a_wrong_called_title_is_rejected_with_the_right_reason(open_door):
    door = open_door(dimse={"check_called_ae": True})
    with RawPeer(door.port) as peer:
        peer.send(associate_rq([(VERIFICATION, [EXPLICIT])], called=b"SOMEBODY"))
        assert peer.receive() == (0x03, bytes([0, 1, 1, 7]))
    assert echo(door.port, ae_title="RADNODE") == 0


def test_when_all_associations_are_taken_the_next_is_told_to_come_again(open_door):
    door = open_door(dimse={"max_associations": 2})
    with RawPeer(door.port) as one, RawPeer(door.port) as two, RawPeer(door.port) as three:
        one.associate()
        two.associate()
        three.send(associate_rq([(CT, [EXPLICIT])]))
        assert three.receive() == (0x03, bytes([0, 2, 3, 2]))  # PS3.8 9.3.4: transient, local limit
    assert eventually(lambda: echo(door.port) == 0)


def test_a_taken_port_is_named_with_the_program_that_has_it(open_door, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            open_door(dimse={"port": port})
    assert str(port) in str(caught.value)
    assert str(os.getpid()) in str(caught.value)


def test_an_address_that_is_not_ours_is_a_config_error(open_door):
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        open_door(callers=("A",), dimse={"host": "192.0.2.1"})


def test_two_messages_in_one_pdu_are_both_served(open_door):
    door = open_door()
    data = [encoded(make_ct(SOPInstanceUID=f"1.2.3.{n}")) for n in range(2)]
    fragments = b""
    for number, one in enumerate(data):
        for control, part in ((3, store_rq(b"1.2.3.%d" % number)), (2, one)):
            value = bytes([1, control]) + part
            fragments += len(value).to_bytes(4, "big") + value
    with RawPeer(door.port) as peer:
        peer.associate()
        peer.send(b"\x04\0" + len(fragments).to_bytes(4, "big") + fragments)
        assert [status_in(peer.receive()[1]) for _ in data] == [0, 0]


def test_the_receiving_process_needs_neither_torch_nor_monai_nor_highdicom():
    code = (
        "import sys, node.accept.dimse, node.accept.folder\n"
        "print([m for m in ('torch', 'monai', 'highdicom') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_default_door_of_the_configuration_can_be_made(tmp_path: Path):
    from node.accept import Store

    door = DimseDoor(AcceptTable(), "RADNODE", Store(tmp_path, AcceptTable()), lambda spool, request: None)
    door.stop()
    assert door.drain(0.1)


def test_it_is_known_who_still_brings_what_and_no_longer_once_he_is_gone(open_door):
    door = open_door()
    assert door.door.bringing() == {}
    with RawPeer(door.port) as first, RawPeer(door.port) as second:
        for peer, uid in ((first, "1.2.3.11"), (second, "1.2.3.12"), (second, "1.2.3.13")):
            if peer is first or uid.endswith("2"):
                peer.associate()
            series = "1.2.3.2" if uid.endswith(("1", "2")) else "1.2.3.9"
            ds = make_ct(SOPInstanceUID=uid, SeriesInstanceUID=series)
            peer.send(p_data(1, 3, store_rq(uid.encode())) + p_data(1, 2, encoded(ds)))
            assert status_in(peer.receive()[1]) == 0
        assert door.door.bringing() == {"1.2.3.2": 2, "1.2.3.9": 1}
        first.socket.close()  # without a word
        assert eventually(lambda: door.door.bringing() == {"1.2.3.2": 1, "1.2.3.9": 1})
        second.send(pdu(0x05, bytes(4)))  # A-RELEASE-RQ
        assert second.receive()[0] == 0x06
        second.socket.close()
        assert eventually(lambda: door.door.bringing() == {})


def test_what_is_remembered_of_an_association_is_bounded_and_the_last_is_kept(monkeypatch, open_door):
    monkeypatch.setattr("node.accept.dimse._MOST_SERIES", 3)
    door = open_door()
    ae = AE("HONEST")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", door.port)
    for number in (1, 2, 3, 1, 4, 5):
        assert association.send_c_store(make_ct(SeriesInstanceUID=f"1.2.{number}")).Status == 0
    assert door.door.bringing() == {"1.2.1": 1, "1.2.4": 1, "1.2.5": 1}
    association.release()


def test_a_request_that_comes_before_the_association_knows_that_it_is_one_is_answered(monkeypatch, open_door):
    said = ACSE.send_accept

    def dawdle(self):
        said(self)
        time.sleep(0.3)

    monkeypatch.setattr(ACSE, "send_accept", dawdle)
    door = open_door()
    with RawPeer(door.port) as peer:
        peer.associate()
        ds = make_ct()
        peer.send(p_data(1, 3, store_rq(ds.SOPInstanceUID.encode())) + p_data(1, 2, encoded(ds)))
        assert status_in(peer.receive()[1]) == 0
    assert len(door.kept) == 1


def test_what_an_association_brought_is_logged_when_it_ends(open_door):
    door = open_door()
    with structlog.testing.capture_logs() as lines:
        send(door.port, make_ct(), make_ct(StudyInstanceUID=None), make_ct(), calling="CT_1")
        assert eventually(lambda: any(line["event"] == "association_ended" for line in lines))
    (line,) = [line for line in lines if line["event"] == "association_ended"]
    assert (line["ae_title"], line["instances"]) == ("CT_1", 2)
