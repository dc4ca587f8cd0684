"""``radnode withdraw``: an operator takes the results of a job back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from node.config import Config
from node.encode.rejection import KEY_OBJECT_SELECTION_CLASS, write_rejection
from node.errors import NodeError
from node.job import Job, Withdrawal
from node.journal import Journal
from node.model import ResultObject

#: How often the notes are written anew because a destination took more meanwhile.
TIMES = 20

#: A destination that a note goes to, in vain.
DEAF = (
    "{place} was seen not to take rejection notes; have it take Key Object Selection, or delete the "
    "results there by hand."
)


def withdraw(
    job_id: int,
    reason: Withdrawal,
    journal: Journal,
    config: Config,
    clock: Callable[[], datetime],
    tell: Callable[[str], None] = lambda _sentence: None,
) -> Job:
    """Withdraw the results of a job, beside a running node or without one.

    Each destination is owed a note that rejects what it took, or may have taken without an answer;
    what it has not been sent yet stays here. The note is on disk before the journal knows of it, and
    from then on it is delivered like any result. Notes of an earlier withdrawal that could not be
    delivered are written anew.

    Parameters
    ----------
    tell
        Called with a sentence for each destination that was seen not to take such a note.

    Raises
    ------
    NodeError
        There is nothing that can be withdrawn, or nothing is left to tell the patient by.
    """
    job = journal.job(job_id)
    for _ in range(TIMES):
        given, now = journal.to_reject(job_id), clock()
        written: dict[tuple[str, ...], ResultObject] = {}
        withdrawn = None
        try:
            for things in given.values():
                if (which := _uids(things)) not in written:
                    number = 1 + journal.notes(job_id) + len(written)
                    written[which] = write_rejection(
                        things,
                        reason,
                        job.spec,
                        _alike(job, journal),
                        _folder(job_id, journal) / f"rejection-{now:%Y%m%dT%H%M%S%f}-{number}.dcm",
                        now=now,
                        number=number,
                        ae_title=config.node.ae_title,
                        presentation=config.results.presentation,
                    )
            notes = {place: written[_uids(things)] for place, things in given.items()}
            withdrawn = journal.withdraw(job_id, reason, seen=given, notes=notes, now=now)
        finally:
            if withdrawn is None:
                for note in written.values():
                    note.path.unlink(missing_ok=True)
        if withdrawn is not None:
            for place in notes:
                if journal.takes(place, KEY_OBJECT_SELECTION_CLASS) is False:
                    tell(DEAF.format(place=place))
            return withdrawn
    raise NodeError(f"Results of job {job_id} are being sent just now; try again in a moment.")


def _uids(things: tuple[ResultObject, ...]) -> tuple[str, ...]:
    return tuple(sorted(thing.sop_instance_uid for thing in things))


def _alike(job: Job, journal: Journal) -> Path:
    """Return an instance from which patient and study can be told."""
    for path in journal.alike(job):
        if path.is_file():
            return path
    raise NodeError(
        f"Nothing of the study of job {job.id} is held any more, so no rejection can be written that names "
        "its patient. Send an image of the study to the node and try again."
    )


def _folder(job_id: int, journal: Journal) -> Path:
    """Return where the results of a job lie, or lay: a node that starts knows the files in it."""
    folder = journal.results(job_id)[0].path.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    return folder
