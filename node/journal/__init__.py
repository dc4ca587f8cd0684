"""Every durable fact and every change of state, in one database beside the files.

`Journal` may be used by any number of threads, and by several processes on one data folder:
the node, and the commands that look at it. Each method is one transaction. All times are
arguments, aware and in UTC. It holds no patient data; see `node.journal.schema`.

record.py    what arrives (together.py: group commit; quick.py: on a connection of its own)
custody.py   instances and series: settle, forget
settlings.py  why a series was taken to be whole: counts, an operator's word, what decided
patients.py  what belongs to one study, and to one patient
jobs.py      the queue and the moves (moves.py: the only place where a state changes)
needs.py     results of one job that another one takes as an input
known.py     work that is asked for again
follow.py    what rules on results ask for
outbox.py    deliveries and receipts
proofs.py    what was taken and is to be seen there
pauses.py    destinations that an operator holds back
standing.py  how it stands with each destination
tries.py     tries to deliver: what may have arrived, what failed
lineage.py   which run took the place of which
withdrawal.py  results are taken back (given.py: what went where)
capability.py  what each destination was seen to take
holdings.py  what is shown to those who ask over DICOMweb
pulls.py     what is fetched from archives
sought.py    where earlier studies were looked for
report.py    how things stand
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from sqlalchemy import URL

from node.errors import ConfigError, JournalUnavailable
from node.journal.capability import Capabilities
from node.journal.custody import Custody
from node.journal.database import open_database
from node.journal.follow import Basis, Followed
from node.journal.holdings import HeldSeries, Holding, Holdings
from node.journal.jobs import Jobs
from node.journal.lineage import Lineage
from node.journal.lock import is_locked, lock_data
from node.journal.needs import Needs
from node.journal.outbox import Outbox
from node.journal.patients import Patients
from node.journal.pauses import Pause, Pauses
from node.journal.proofs import Proofs, Unproved
from node.journal.pulls import Pull, Pulls
from node.journal.report import Report
from node.journal.rows import Arriving, Delivery, Event, Recorded
from node.journal.settlings import Settled, Settlings
from node.journal.sought import Sought
from node.journal.tries import Tries
from node.journal.withdrawal import Withdrawals

__all__ = [
    "Arriving",
    "Basis",
    "Delivery",
    "Event",
    "HeldSeries",
    "Holding",
    "Journal",
    "Pause",
    "Pull",
    "Recorded",
    "Settled",
    "Unproved",
    "is_locked",
    "lock_data",
]


class Journal(
    Custody,
    Settlings,
    Patients,
    Jobs,
    Needs,
    Followed,
    Lineage,
    Outbox,
    Tries,
    Withdrawals,
    Proofs,
    Pauses,
    Capabilities,
    Holdings,
    Pulls,
    Sought,
    Report,
):
    """The journal of one data folder."""

    @classmethod
    def open(cls, data: Path, url: URL | str | None = None, *, create: bool = True) -> Self:
        """Open the journal of a data folder; make it, or bring its schema up to date, first.

        Parameters
        ----------
        url
            Of another database, in SQLAlchemy's form; None: ``data/journal.sqlite``.
        create
            False for a command beside the node: it makes and changes no schema, since a node
            of another version may be at work on it.

        Raises
        ------
        ConfigError
            It is corrupt, not writable, or was written by a newer version; or it is not there
            or of another version, and ``create`` is False.
        """
        journal = cls(open_database(data, url, create=create), data)
        if create:
            try:
                journal.patient_key("anyone")  # the secret key is made now, or found wanting
            except JournalUnavailable as error:
                journal.close()
                raise ConfigError(str(error)) from error
        return journal
