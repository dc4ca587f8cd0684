"""What each destination was seen to take: remembered, so that it is given that the next time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import and_, delete, insert, select

from node.journal import schema
from node.journal.database import Database

_capability = schema.capability


class Capabilities(Database):
    """The part of the journal that remembers what was negotiated."""

    def learn(self, destination: str, taken: Mapping[str, bool], now: datetime) -> None:
        """Remember which SOP Classes a destination took or refused in an association just now."""
        if not taken:
            return
        these = and_(_capability.c.destination == destination, _capability.c.sop_class_uid.in_(list(taken)))
        rows = [
            {"destination": destination, "sop_class_uid": uid, "taken": yes, "seen_at": now}
            for uid, yes in taken.items()
        ]
        with self._writing() as connection:
            connection.execute(delete(_capability).where(these))
            connection.execute(insert(_capability), rows)

    def takes(self, destination: str, sop_class_uid: str) -> bool | None:
        """Return whether a destination was last seen to take a SOP Class; None: never asked."""
        query = select(_capability.c.taken).where(
            _capability.c.destination == destination, _capability.c.sop_class_uid == sop_class_uid
        )
        with self._reading() as connection:
            return connection.scalar(query)
