"""What every pipeline has to reach of the system: interpreter, libraries, devices, facts of the machine."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from node.compute.sandbox.landlock import DEVICE, READ

#: Libraries and what they read: caches of the loader, time zones, settings of OpenSSL. No list of
#: users, hosts or services.
_SYSTEM: Final = """
/usr /lib /lib32 /lib64 /nix/store /gnu/store /opt/rocm
/etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d /etc/localtime /etc/timezone /etc/mime.types
/etc/ssl/openssl.cnf /etc/pki/tls/openssl.cnf /etc/crypto-policies
/proc/cpuinfo /proc/meminfo /proc/stat /proc/filesystems /proc/version /proc/devices
/proc/sys/vm /proc/sys/kernel/cap_last_cap /proc/sys/kernel/osrelease
/sys/devices/system /sys/fs/cgroup /sys/kernel/mm/transparent_hugepage
""".split()
_HARMLESS: Final = "/dev/null /dev/zero /dev/full /dev/random /dev/urandom".split()

#: Of accelerators: the devices themselves, and what their drivers read.
_ACCELERATORS: Final = ("nvidia*", "nvidia-caps/*", "kfd", "dri", "dxg")
_TOPOLOGY: Final = "/sys/devices /sys/bus /sys/class /sys/module /proc/driver /proc/modules".split()


def of_the_system(device: str) -> Iterator[tuple[Path, int]]:
    """Yield places, which may be missing, with the rights to them.

    Parameters
    ----------
    device
        "cpu", or an accelerator, of which then all that there are may be used.
    """
    for place in (*map(Path, _SYSTEM), *_interpreter(), *_libraries()):
        yield place, READ
    for name in _HARMLESS:
        yield Path(name), DEVICE
    if device != "cpu":
        for pattern in _ACCELERATORS:
            for found in Path("/dev").glob(pattern):
                yield found, DEVICE
        for name in _TOPOLOGY:
            yield Path(name), READ


def _interpreter() -> Iterator[Path]:
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        for name in ("lib", "lib64", "share"):
            yield Path(prefix, name)
    yield Path(os.__file__).parent
    for place in (*site.getsitepackages(), site.getusersitepackages()):
        yield Path(place)
    for package in ("node", "pipelines"):
        yield Path(str(files(package)))


def _libraries() -> Iterator[Path]:
    for place in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if Path(place).is_absolute():
            yield Path(place)
