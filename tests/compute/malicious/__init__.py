"""What hostile code of a pipeline may try, one function per attempt; `TRIES` names them all.

Each is given a `Target` and must not succeed: it raises, or returns False where there is nothing to raise.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.compute.malicious import files, limits, network, processes, signals
from tests.compute.malicious.target import Target

TRIES: dict[str, Callable[[Target], object]] = {
    name: attempt
    for subject in (network, files, processes, signals, limits)
    for name, attempt in vars(subject).items()
    if getattr(attempt, "__module__", "") == subject.__name__
}
