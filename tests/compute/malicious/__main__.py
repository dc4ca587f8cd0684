"""``python -m tests.compute.malicious NAMES TARGET HOW``: try them, and tell as JSON what stopped each.

HOW is the version of Landlock to be confined with, or "free".
"""

from __future__ import annotations

import contextlib
import errno
import json
import sys
from dataclasses import replace
from pathlib import Path

from node.compute.sandbox import confine, landlock
from tests.compute.malicious import TRIES
from tests.compute.malicious.target import Target


def outcome(name: str, at: Target) -> str:
    """Try it; return "" if it succeeded, or what stopped it."""
    try:
        done = TRIES[name](at)
    except BaseException as error:  # noqa: BLE001
        code = getattr(error, "errno", None)
        return errno.errorcode.get(code, str(code)) if code else type(error).__name__
    finally:
        with contextlib.suppress(OSError):
            Path("mine").unlink()
    return "" if done is not False else "refused"


def main() -> None:
    """Do what the arguments say."""
    names, at = json.loads(sys.argv[1]), Target(**json.loads(sys.argv[2]))
    at = replace(at, secret=Path(at.secret), folder=Path(at.folder))
    said = ""
    if sys.argv[3] != "free":
        if (older := int(sys.argv[3])) < landlock.version():
            landlock.version = lambda: older
        said = str(confine(readable=[], writable=[Path.cwd()], memory_bytes=2 << 30, file_bytes=1 << 30))
    print(json.dumps({"said": said, **{name: outcome(name, at) for name in names}}))


if __name__ == "__main__":
    main()
