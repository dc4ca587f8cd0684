"""What archives report of storage commitment, over associations that they open to us."""

from __future__ import annotations

import struct
import time

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import build_context, build_role

from node.peer.commitment import PUSH_MODEL
from tests.accept.conftest import echo, encoded, make_ct
from tests.accept.raw import CT, EXPLICIT, IMPLICIT, RawPeer, command, p_data, status_in

INSTANCE = "1.2.840.10008.1.20.1.1"
PLAIN = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def report(committed=("1.2.3",), failed=()) -> Dataset:
    told = Dataset()
    told.TransactionUID = "2.25.42"
    for keyword, uids in (("ReferencedSOPSequence", committed), ("FailedSOPSequence", failed)):
        items = []
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
            if keyword == "FailedSOPSequence":
                item.FailureReason = 0x0112
            items.append(item)
        if items:
            setattr(told, keyword, items)
    return told


class Heard(list):
    """What was heard, and what is answered."""

    status = 0

    def __call__(self, told, caller) -> int:
        self.append((told, caller))
        if isinstance(self.status, Exception):
            raise self.status
        return self.status


@pytest.fixture
def heard() -> Heard:
    return Heard()


def archive(port: int, *, has_role: bool = True):
    ae = AE("ARCHIVE")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    roles = [build_role(PUSH_MODEL, scp_role=True)] if has_role else []
    association = ae.associate(
        "127.0.0.1", port, contexts=[build_context(PUSH_MODEL, PLAIN)], ext_neg=roles, ae_title="RADNODE"
    )
    assert association.is_established
    return association


@pytest.mark.parametrize("has_role", [True, False])
def test_a_report_over_an_association_that_the_archive_opens_is_heard(has_role, open_door, heard):
    door = open_door(on_commitment=heard)
    association = archive(door.port, has_role=has_role)
    assert association.accepted_contexts[0].as_scp is has_role
    for event, told in ((1, report()), (2, report(["1.2.3"], ["1.2.4", "1.2.5"]))):
        status, _ = association.send_n_event_report(told, event, PUSH_MODEL, INSTANCE)
        assert status.Status == 0
    association.release()
    (first, caller), (second, _) = heard
    assert caller == "ARCHIVE"
    assert first.transaction_uid == "2.25.42"
    assert (first.committed, first.failed) == ({"1.2.3": CTImageStorage}, {})
    assert second.failed == {"1.2.4": 0x0112, "1.2.5": 0x0112}
    assert not door.spooled()


def test_what_is_answered_is_what_the_hearer_says(open_door, heard):
    door = open_door(on_commitment=heard)
    association = archive(door.port)

    def told(event=1, what=None) -> int:
        status, _ = association.send_n_event_report(what or report(), event, PUSH_MODEL, INSTANCE)
        return status.Status

    heard.status = 0x0110
    assert told() == 0x0110
    heard.status = KeyError("patient")
    assert told() == 0x0110
    heard.status = 0
    assert told(event=9) == 0x0113
    nameless = report()
    nameless.TransactionUID = ""
    assert told(what=nameless) == 0x0115
    assert told() == 0
    association.release()
    assert echo(door.port) == 0


def test_a_door_that_asked_nobody_does_not_offer_to_listen(open_door):
    door = open_door()
    ae = AE("ARCHIVE")
    contexts = [build_context(PUSH_MODEL, PLAIN), build_context("1.2.840.10008.1.1", PLAIN)]
    association = ae.associate("127.0.0.1", door.port, contexts=contexts)
    assert [cx.abstract_syntax for cx in association.accepted_contexts] == ["1.2.840.10008.1.1"]
    association.release()


def test_a_device_that_takes_us_for_an_archive_is_told_that_we_are_none(open_door, heard):
    door = open_door(on_commitment=heard)
    association = archive(door.port, has_role=False)
    status, _ = association.send_n_action(report(), 1, PUSH_MODEL, INSTANCE)
    assert status.Status == 0x0211
    assert association.is_established
    association.release()
    ae = AE("CT1")
    ae.add_requested_context(CTImageStorage, PLAIN)
    ae.add_requested_context(PUSH_MODEL, PLAIN)
    association = ae.associate("127.0.0.1", door.port, ext_neg=[build_role(PUSH_MODEL, scu_role=True)])
    assert [cx.abstract_syntax for cx in association.accepted_contexts] == [CTImageStorage]
    association.release()
    assert not heard


def event_rq(*, data_set: bool = True, sop_class: str = PUSH_MODEL) -> bytes:
    uids = {0x0002: sop_class.encode(), 0x1000: INSTANCE.encode(), 0x1002: struct.pack("<H", 1)}
    return command(0x0100, elements=uids, data_set=data_set)


@pytest.mark.parametrize("what", ["no data set", "too long", "other context", "unfinished", "junk"])
def test_a_report_that_is_none_loses_only_its_own_association(what, open_door, heard):
    door = open_door(on_commitment=heard, dimse={"pdu_timeout_s": 0.5})
    with RawPeer(door.port) as peer:
        peer.associate([(PUSH_MODEL, [IMPLICIT]), (CT, [EXPLICIT])])
        if what == "no data set":
            peer.send(p_data(1, 3, event_rq(data_set=False)))
        elif what == "too long":
            peer.send(p_data(1, 3, event_rq()))
            try:
                for _ in range(40):
                    peer.send(p_data(1, 0, bytes(65536)))
                peer.send(p_data(1, 2, bytes(64)))
            except OSError:
                pass  # it was cut, as it should be
        elif what == "other context":
            peer.send(p_data(3, 3, event_rq(sop_class=CT)) + p_data(3, 2, b"\0" * 64))
        elif what == "unfinished":
            peer.send(p_data(1, 3, event_rq()) + p_data(1, 0, b"\x08\0"))
        if what == "junk":
            peer.send(p_data(1, 3, event_rq()) + p_data(1, 2, bytes(range(256)) * 4))
            assert status_in(peer.receive()[1]) == 0x0115
        else:
            assert peer.receive()[0] in (0, 0x07)  # closed, or A-ABORT
    assert not heard
    assert echo(door.port) == 0
    assert not door.spooled()


def test_reports_that_come_without_waiting_are_bounded(open_door, heard):
    door = open_door(on_commitment=heard)
    heard_slowly = time.monotonic()
    with RawPeer(door.port) as peer:
        peer.associate([(PUSH_MODEL, [IMPLICIT])])
        told = p_data(1, 3, event_rq()) + p_data(1, 2, encoded_implicit(report()))
        peer.send(told * 100)
        for _ in range(100):
            assert status_in(peer.receive()[1]) == 0
    assert len(heard) == 100
    assert time.monotonic() - heard_slowly < 20


def encoded_implicit(ds: Dataset) -> bytes:
    return encode(ds, True, True)


def test_an_instance_over_a_context_that_is_not_for_instances_is_not_stored(open_door, heard):
    door = open_door(on_commitment=heard)
    data = encoded(make_ct(SOPClassUID=PUSH_MODEL, SOPInstanceUID="1.2.9"))
    with RawPeer(door.port) as peer:
        peer.associate([(PUSH_MODEL, [EXPLICIT])])
        uids = {0x0002: PUSH_MODEL.encode(), 0x0700: struct.pack("<H", 0), 0x1000: b"1.2.9"}
        peer.send(p_data(1, 3, command(0x0001, elements=uids, data_set=True)) + p_data(1, 2, data))
        assert status_in(peer.receive()[1]) == 0x0122
    assert not door.kept


def test_extended_negotiation_is_answered_as_it_is(open_door):
    """PS3.7 D.3.3.3 and D.3.3.5, PS3.4 B.3.1: one operation at a time; everything is kept as it came."""
    door = open_door()
    ae = AE("HONEST")
    ae.add_requested_context(CTImageStorage, PLAIN)
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 8
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid = CTImageStorage
    extended.service_class_application_information = bytes((2, 0, 0, 0, 1, 0))
    private = SOPClassExtendedNegotiation()
    private.sop_class_uid = "1.2.3.4"
    private.service_class_application_information = b"\1"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid = CTImageStorage
    common.service_class_uid = "1.2.840.10008.4.2"
    association = ae.associate("127.0.0.1", door.port, ext_neg=[window, extended, private, common])
    assert association.is_established
    assert association.acceptor.asynchronous_operations == (1, 1)
    assert association.acceptor.sop_class_extended == {CTImageStorage: bytes((2, 0, 3, 0, 0, 0))}
    assert association.send_c_store(make_ct()).Status == 0
    association.release()


def test_an_unknown_class_loses_its_context_and_not_the_association(open_door):
    door = open_door()
    ae = AE("HONEST")
    for uid in ("1.2.3.4.5", CTImageStorage, "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.1"):
        ae.add_requested_context(uid, PLAIN)
    association = ae.associate("127.0.0.1", door.port)
    results = {cx.abstract_syntax: cx.result for cx in association.rejected_contexts}
    assert results == {"1.2.3.4.5": 3, "1.2.840.10008.5.1.4.1.2.2.1": 3}  # PS3.8 Table 9-18
    assert association.send_c_store(make_ct()).Status == 0
    association.release()
