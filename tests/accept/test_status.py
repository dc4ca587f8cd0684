"""Each status means to pynetdicom, and so to the standard, what it means to us."""

from __future__ import annotations

import errno

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from node import errors
from node.accept import status


@pytest.mark.parametrize(
    ("code", "category", "meaning"),
    [
        (status.SUCCESS, "Success", ""),
        (status.PROCESSING_FAILURE, "Failure", "Processing Failure"),
        (status.DUPLICATE_INSTANCE, "Failure", "Duplication SOP Instance"),
        (status.SOP_CLASS_NOT_SUPPORTED, "Failure", "Refused: SOP Class Not Supported"),
        (status.OUT_OF_RESOURCES, "Failure", "Refused: Out of Resources"),
        (status.MISMATCH, "Failure", "Data Set Does Not Match SOP Class"),
        (status.CANNOT_UNDERSTAND, "Failure", "Cannot Understand"),
    ],
)
def test_a_status_is_what_the_tables_say(code, category, meaning):
    assert STORAGE_SERVICE_CLASS_STATUS[code] == (category, meaning)
    assert code in status.ANSWERS


def test_every_accept_error_has_a_status():
    expected = {
        errors.NotDicom: 0xC000,
        errors.MissingIdentity: 0xA900,
        errors.IdentityMismatch: 0xA900,
        errors.ContentConflict: 0x0111,
        errors.OutOfSpace: 0xA700,
    }
    ours = {kind for kind in errors.AcceptError.__subclasses__() if kind.__module__ == errors.__name__}
    assert ours == set(expected)
    for kind, code in expected.items():
        assert status.status_of(kind()) == code


def test_troubles_that_pass_ask_for_another_try():
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO, errno.EROFS):
        assert status.status_of(OSError(number, "")) == 0xA700
    assert status.status_of(MemoryError()) == 0xA700
    assert status.status_of(KeyError("x")) == 0x0110


def test_a_locked_journal_is_worth_another_try() -> None:
    assert status.status_of(errors.JournalUnavailable()) == 0xA700


def test_a_comment_fits_and_quotes_no_foreign_error():
    assert len(status.comment_of(errors.NotDicom("x" * 100))) == 64
    assert "Canary" not in status.comment_of(ValueError("Canary^Patient"))
    assert "\\" not in status.comment_of(errors.NotDicom("a\\b\n"))
