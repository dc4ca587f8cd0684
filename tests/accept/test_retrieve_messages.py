"""What an archive brings by C-GET and pynetdicom refuses by itself."""

from __future__ import annotations

import logging
import queue
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import build_context

from node.accept import Request, Spool, Store
from node.accept.retrieve_messages import Messages
from node.config import AcceptTable
from tests.harness import being_received


@pytest.mark.parametrize(
    ("sop_class_uid", "priority"), [(MRImageStorage, 2), (CTImageStorage, 9)], ids=["class", "priority"]
)
def test_what_is_refused_before_we_hear_of_it_leaves_nothing_open(
    sop_class_uid: str, priority: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="pynetdicom")  # as in a node; a record would hold all
    store = Store(tmp_path, AcceptTable(reserve_gb=0))
    association: Any = Association(AE(), "requestor")
    context = build_context(CTImageStorage, ImplicitVRLittleEndian)
    context.context_id, context.result, context._as_scp, context._as_scu = 1, 0, True, False
    association._accepted_cx = {1: context}

    def open_spool(command: Any, _context: Any) -> Spool:
        uid = str(command.AffectedSOPInstanceUID)
        return store.spool(
            Request(
                sender="PACS",
                sop_class_uid=str(command.AffectedSOPClassUID),
                sop_instance_uid=uid,
                transfer_syntax_uid=str(ImplicitVRLittleEndian),
            )
        )

    messages = Messages(association, None, 1, 1, open_spool)
    messages.send_msg = lambda *_: None  # type: ignore[method-assign]
    association.dimse = messages
    offered = C_STORE()
    offered.MessageID, offered.Priority = 7, 2
    offered.AffectedSOPClassUID, offered.AffectedSOPInstanceUID = sop_class_uid, "1.2.3"
    offered.DataSet = BytesIO(bytes(3000))
    message = C_STORE_RQ()
    message.primitive_to_message(offered)
    message.command_set.Priority = priority
    for part in message.encode_msg(1, 16382):
        messages.receive_primitive(part)
    with suppress(queue.Empty):
        association._c_store_scp(messages.msg_queue.get_nowait()[1])
    messages.drop()
    assert being_received(tmp_path) == []
