"""One line per event, without patient data.

Only the keys in `KEYS` are ever written, so a name or a date cannot slip in beside them. What
goes wrong is told by `describe`: type and place, never the message of a foreign exception,
which may quote a header.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from node.text import clean

#: What a log line may hold: UIDs, counts, codes and sentences that we wrote ourselves.
KEYS = frozenset(
    """
    event level timestamp step
    ae_title associations bytes called_ae_title code connections count destination error expected fence host
    instances job kind limit method name notes objects pid pipeline port reason revision route rule seconds
    sender series series_uid signal slot sop_class_uid sop_instance_uid state status study_uid
    syntaxes tail transfer_syntax_uid tries version via
    """.split()
)

#: A value longer than this is cut; a peer or a pipeline chooses some of them.
LONGEST_VALUE = 500


def configure(*, level: int = logging.INFO) -> None:
    """Send our events to standard error: JSON lines, or readable text on a terminal."""
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _only_known_keys,
            structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=Lines,
    )
    # Their messages quote headers, and some of those are names.
    for library in ("pynetdicom", "pydicom", "highdicom", "uvicorn", "asyncio", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"(pydicom|highdicom|pynetdicom)\b")


def get_log(step: str) -> Any:
    """Return a logger whose lines name the step they come from."""
    return structlog.get_logger(step=step)


def describe(error: BaseException) -> str:
    """Return type and place of an error, e.g. ``"ValueError at sr.py:120"``; never its message."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


class Lines:
    """Writes to standard error, as it is now; work goes on whether or not a line could be written."""

    _turn = threading.Lock()  #: lines of different threads stay whole

    def __init__(self, *_arguments: Any) -> None:
        pass

    def error(self, line: str) -> None:
        """Write a line. It may be lost where the disk is full, or whoever read it is gone."""
        if sys.stderr is not None:  # as it is when the node was started without one
            with self._turn, suppress(OSError, ValueError):  # ValueError: it is closed
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()

    debug = info = warning = critical = error


def _only_known_keys(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: _short(value) for key, value in event.items() if key in KEYS}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value, LONGEST_VALUE)
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_short(item) for item in value[:50]]
    if isinstance(value, dict):
        return {str(key): _short(item) for key, item in list(value.items())[:50]}
    return type(value).__name__
