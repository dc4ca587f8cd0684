"""What is written where there is no Patient ID is not taken for one."""

from __future__ import annotations

import pytest

from node.patient import is_placeholder

NOBODY = """
0 000000 1 1111 999-999 XXX Unknown none N/A Anon ANONYMOUS^17 anonymized PatientID no_id 123456
""".split()


@pytest.mark.parametrize("said", ["", " ", *NOBODY])
def test_what_is_written_for_nobody_is_no_id(said):
    assert is_placeholder(said)


@pytest.mark.parametrize("said", ["10", "100000", "SIMULATED-1", "MRN 7", "P1", "7654321", "NANON", "患者12"])
def test_a_number_that_is_given_out_once_is_one(said):
    assert not is_placeholder(said)
