"""Which studies are of one patient, without knowing whose they are; and what is held around a series.

A patient is known by HMAC-SHA-256 over Patient ID. Its issuer has no part in it, since older studies
often lack that; where two say one, and not the same, whoever finds them tells them apart. The secret key
lies beside the journal and leaves the machine in no other way: without it a digest says nothing, and
nobody can try out names or numbers. Where it is lost, earlier studies are no longer found, and that is all.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from node.durable import sync_folder
from node.errors import JournalUnavailable
from node.job import JobState
from node.journal import schema
from node.journal.database import Database
from node.journal.rows import instance_of
from node.journal.settlings import settlings_now
from node.model import Instance, Series

KEY_FILE = "patients.key"
KEY_BYTES = 32

_series, _instance, _job, _given = schema.series, schema.instance, schema.job, schema.job_input


class Patients(Database):
    """The part of the journal that knows what belongs together."""

    def patient_key(self, patient_id: str) -> str:
        """Return a digest that is the same for all series of one patient; "" for no Patient ID.

        Earlier versions counted the issuer as well: what they kept without one has the same digest, and a
        series with one is found again once it has settled anew.

        Raises
        ------
        JournalUnavailable
            The secret key cannot be read or made.
        """
        if not patient_id:
            return ""
        message = f"{patient_id}\0".encode("utf-8", "surrogatepass")
        return hmac.new(_secret(self._data / KEY_FILE), message, hashlib.sha256).hexdigest()

    def patient_of(self, study_uid: str) -> str:
        """Return the digest of the patient of a study; "" where its series do not agree on one."""
        query = select(_series.c.patient_key).where(
            _series.c.study_uid == study_uid, ~_series.c.unsettled, _series.c.patient_key != ""
        )
        with self._reading() as connection:
            keys = set(connection.scalars(query.distinct()))
        return keys.pop() if len(keys) == 1 else ""

    def settled_in(self, *, study_uid: str = "", patient_key: str = "") -> list[Series]:
        """Return the settled series of a study or of a patient, as they stand; sorted by UID.

        One with instances that came later is not among them: it will settle anew.
        """
        these = _of_study(study_uid) if study_uid else _of_patient(patient_key)
        with self._reading() as connection:
            rows = connection.execute(
                select(_series).where(these, ~_series.c.unsettled).order_by(_series.c.series_uid)
            ).all()
            held = connection.execute(
                select(_instance)
                .join(_series, _series.c.series_uid == _instance.c.series_uid)
                .where(these, ~_series.c.unsettled)
                .order_by(_instance.c.sop_instance_uid)
            ).all()
            settled = settlings_now(connection, these)
        by_series: dict[str, list[Instance]] = {}
        for one in held:
            by_series.setdefault(one.series_uid, []).append(instance_of(one, self._data))
        return [
            Series(
                uid=row.series_uid,
                study_uid=row.study_uid,
                revision=row.revision,
                instances=tuple(by_series.get(row.series_uid, ())),
                settling=settled.get(row.series_uid),
            )
            for row in rows
        ]

    def cases_of(self, series_uid: str, patient_key: str) -> dict[str, set[str]]:
        """Return rule -> the studies whose case of it a series may change by settling.

        That is where it is bound to a role, and where, in a study of its patient, nothing was begun
        or a series was lacking.
        """
        bound = _job.c.id.in_(select(_given.c.job_id).where(_given.c.series_uid == series_uid))
        studies = select(_series.c.study_uid).where(_of_patient(patient_key))
        lacking = and_(
            _job.c.lack.is_not(None),
            or_(_job.c.state != JobState.CANCELLED, _job.c.reason_code == "skipped"),
        )
        open_ones = and_(_job.c.study_uid.in_(studies), or_(_job.c.state == JobState.QUEUED, lacking))
        query = select(_job.c.study_uid, _job.c.case_of).where(_job.c.case_of != [], or_(bound, open_ones))
        found: dict[str, set[str]] = {}
        with self._reading() as connection:
            for study_uid, rules in connection.execute(query):
                for rule in rules:
                    found.setdefault(rule, set()).add(study_uid)
        return found

    def beside(self, series_uid: str, study_uid: str, patient_key: str) -> dict[str, int]:
        """Return the revision of each settled series beside one: of its study, and of its patient."""
        with self._reading() as connection:
            return seen_of(connection, series_uid, study_uid, patient_key)


def seen_of(connection: Connection, series_uid: str, study_uid: str, patient_key: str) -> dict[str, int]:
    """Do as `Patients.beside`, within a transaction."""
    query = select(_series.c.series_uid, _series.c.revision).where(
        or_(_of_study(study_uid), _of_patient(patient_key)),
        ~_series.c.unsettled,
        _series.c.series_uid != series_uid,
    )
    return {row.series_uid: row.revision for row in connection.execute(query)}


def _of_study(study_uid: str) -> ColumnElement[bool]:
    return _series.c.study_uid == study_uid


def _of_patient(patient_key: str) -> ColumnElement[bool]:
    return and_(_series.c.patient_key == patient_key, _series.c.patient_key != "")


def _secret(path: Path) -> bytes:
    """Return the key; make it, durably and for the eyes of its owner alone, where there is none."""
    try:
        with suppress(FileNotFoundError):
            return _whole(path.read_bytes(), path)
        new = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secrets.token_bytes(KEY_BYTES))
            os.fsync(fd)
        finally:
            os.close(fd)
        with suppress(FileExistsError):  # another thread was faster
            os.link(new, path)
        new.unlink()
        sync_folder(path.parent)
        return _whole(path.read_bytes(), path)
    except OSError as error:
        raise JournalUnavailable(
            f"The key of the patients {path} cannot be used ({error.strerror}); make it readable for this "
            "user, or restore it from a backup."
        ) from error


def _whole(key: bytes, path: Path) -> bytes:
    if len(key) != KEY_BYTES:
        raise JournalUnavailable(f"{path} holds no key of {KEY_BYTES} bytes; restore it, or remove it.")
    return key
