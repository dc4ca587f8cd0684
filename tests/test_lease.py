from __future__ import annotations

from node.lease import Leases


def test_what_is_read_is_not_let_go_of_until_every_reader_has_ended():
    leases = Leases()
    assert leases.take("1.2") and leases.take("1.2")
    with leases.ending("1.2") as free:
        assert not free
    leases.give_back("1.2")
    with leases.ending("1.2") as free:
        assert not free
    leases.give_back("1.2")
    with leases.ending("1.2") as free:
        assert free


def test_what_is_being_removed_is_gone_for_readers_and_others_are_not():
    leases = Leases()
    with leases.ending("1.2") as free:
        assert free
        assert not leases.take("1.2")
        assert leases.take("1.3")
        with leases.ending("1.2") as again:
            assert not again
        assert not leases.take("1.2")
    assert leases.take("1.2")


def test_a_removal_that_fails_lets_readers_in_again():
    leases = Leases()
    try:
        with leases.ending("1.2"):
            raise OSError
    except OSError:
        pass
    assert leases.take("1.2")
