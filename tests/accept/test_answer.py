"""The request that comes thousands of times, and its answer, beside what pynetdicom makes of them."""

from __future__ import annotations

from io import BytesIO

import pytest
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE

from node.accept.answer import decode_request, elements_of, encode_success
from tests.accept.raw import CT


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "2.25." + "1" * 59])
def test_request_and_answer_are_what_pynetdicom_would_make_of_them(uid):
    request = C_STORE()
    request.MessageID, request.Priority, request.DataSet = 65535, 2, BytesIO(b"data")
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, uid
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo, answer.Status = 65535, 0
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = CT, uid

    asked = theirs(C_STORE_RQ(), request)
    assert theirs(C_STORE_RSP(), answer) == encode_success(request)
    ours = decode_request(elements_of(asked))
    assert ours.is_valid_request
    for keyword in ("MessageID", "Priority", "AffectedSOPClassUID", "AffectedSOPInstanceUID"):
        assert getattr(ours, keyword) == getattr(request, keyword)
        assert type(getattr(ours, keyword)) is type(getattr(request, keyword))

    request.MoveOriginatorApplicationEntityTitle = "MOVER"
    assert decode_request(elements_of(theirs(C_STORE_RQ(), request))) is None, "this is left to pynetdicom"
    assert decode_request(elements_of(asked[:-1])) is None


def theirs(message, primitive):
    """Return the command set that pynetdicom encodes."""
    message.primitive_to_message(primitive)
    ((_, fragment),) = next(message.encode_msg(1, 16384)).presentation_data_value_list
    return fragment[1:]
