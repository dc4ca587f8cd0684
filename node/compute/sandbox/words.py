"""Words for what the kernel refuses: a pipeline that tries is told what it may not, and so is its author.

Python announces what it is about to do (`sys.addaudithook`), which is the moment to say more than
"operation not permitted". Nothing is kept out by this: code can go past Python, and then meets the
kernel's own answer.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any, Final

#: What Python announces -> what a pipeline may not do.
_REFUSED: Final = {
    "socket.__new__": "use the network",
    "socket.connect": "use the network",
    "socket.bind": "use the network",
    "socket.sendto": "use the network",
    "socket.getaddrinfo": "use the network",
    "socket.gethostbyname": "use the network",
    "subprocess.Popen": "start processes",
    "os.fork": "start processes",
    "os.forkpty": "start processes",
    "os.system": "start processes",
    "os.exec": "start processes",
    "os.posix_spawn": "start processes",
    "os.spawn": "start processes",
    "pty.spawn": "start processes",
}
#: Which of the arguments names what was tried.
_NAMED: Final = {"socket.connect": 1, "socket.bind": 1, "socket.sendto": 1}
_NAMELESS: Final = frozenset({"socket.__new__", "os.fork", "os.forkpty"})
_FAMILY_UNIX: Final = 1  # AF_UNIX: a pair of sockets within the process is made of two

_LONGEST = 80


def explain_refusals() -> None:
    """Have Python raise `PermissionError` with a sentence where the kernel would refuse; for good."""
    refused: Callable[[str], str | None] = _REFUSED.get  # looked up once: this runs at every import and open

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        what = refused(event)
        if what is not None and not (event == "socket.__new__" and arguments[1] == _FAMILY_UNIX):
            raise PermissionError(errno.EPERM, _sentence(what, event, arguments))

    sys.addaudithook(hook)


def _sentence(what: str, event: str, arguments: tuple[Any, ...]) -> str:
    """Return what was tried and that it is not allowed."""
    named = "" if event in _NAMELESS or not arguments else repr(arguments[_NAMED.get(event, 0)])
    return f"a pipeline may not {what} ({event}{' ' if named else ''}{named[:_LONGEST]})"
