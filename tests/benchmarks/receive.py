"""How fast the node takes in, beside the archives around it, in one run on one machine.

The same CT instances (200 of 512 x 512, 16 bit) and one large enhanced multi-frame object are sent by
DCMTK's ``storescu``, over 1, 4 and 16 associations at once, to this node, to Debian's Orthanc, to
DCMTK's ``storescp`` and to a bare pynetdicom handler that writes files, in turn, several rounds;
``storescu`` invents new UIDs each time. Printed are instances and megabytes per second, CPU seconds per
gigabyte (user and system) and peak memory of the receiver, and how many times as fast as each rival the
node was, median and spread over the rounds; then, for a single sender in Python, the time to set up an
association and to each acknowledgement, and how many files a second the disk takes from one writer that
writes as programs mostly do, by way of the page cache, and syncs each. Run from the checkout, on a quiet
machine: what else it did is printed as its load.

    .venv/bin/python -m tests.benchmarks.receive [ROUNDS] [LARGE_MB]

What each rival promises differs: only the node and Orthanc keep an index, and only the node has synced
file and index before it says Success. Python starts at 0.4 s here and is not counted: receivers are
up before the clock starts. The memory is touched before each: the pages that a virtual machine has given
back to its host take so long to come again that they would be what is measured of a receiver that waits
for nothing else. The senders run on the same processors. What was received stays until the end,
6 GB a round: among thousands of files just removed, ext4 looks long for a place for each new one. Of
``storescp``, which takes each association in a process of its own, the peak is that of its parent alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pynetdicom import AE
from pynetdicom.presentation import build_context

from tests import orthanc, phantoms
from tests.harness import NodeProcess, free_port, listens, memory_mb, wait_until

SLICES, ROWS, COLUMNS = 200, 512, 512
#: Associations at once, and how many instances each brings.
LOADS = ((1, 200), (4, 200), (16, 50))
TOUCHED_BYTES = 2 << 30  #: more than all senders and one receiver take for one load
#: DCMTK waits for Nagle's algorithm otherwise, and takes fifty times as long.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}

BARE = """
import sys
from pynetdicom import AE, AllStoragePresentationContexts, evt
folder, port, number = sys.argv[1], int(sys.argv[2]), 0
def store(event):
    with open(f"{folder}/{event.request.AffectedSOPInstanceUID}.dcm", "wb") as file:
        file.write(event.encoded_dataset())
    return 0
ae = AE("BARE")
ae.maximum_associations = 50
ae.supported_contexts = AllStoragePresentationContexts
ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])
"""


@dataclass
class Receiver:
    """A program that takes instances on a port."""

    name: str
    port: int
    pid: int


@dataclass
class Result:
    """What was measured of one receiver under one load, one entry per round."""

    per_s: list[float] = field(default_factory=list)
    mb_per_s: list[float] = field(default_factory=list)
    cpu_s_per_gb: list[float] = field(default_factory=list)
    peak_mb: float = 0.0


def main(rounds: int, large_mb: int) -> None:
    """Measure in turn, and print."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        files = _slices(root / "ct")
        large = _large(root / "large.dcm", large_mb)
        loads = {f"{n} x {count}": (n, files[:count]) for n, count in LOADS}
        loads[f"1 object of {large_mb} MB"] = (1, [large])
        with _receivers(root) as receivers:
            table: dict[tuple[str, str], Result] = {}
            for number in range(rounds + 1):
                for load, (associations, chosen) in loads.items():
                    for receiver in receivers:
                        result = table.setdefault((load, receiver.name), Result()) if number else Result()
                        _measure(receiver, associations, chosen, result)
                done = f"round {number} of {rounds} done" if number else "warm-up done"
                print(f"{done}, load {os.getloadavg()[0]:.1f}", flush=True)
            _print(table, [r.name for r in receivers])
            for receiver in receivers:
                _print_latency(receiver, files)
            _print_disk(root / "disk", files)


def _measure(receiver: Receiver, associations: int, files: Sequence[Path], result: Result) -> None:
    size_mb = sum(file.stat().st_size for file in files) * associations / 1e6
    os.sync()  # nobody waits for what another has left to be written
    np.ones(TOUCHED_BYTES, np.uint8)
    cpu_s = _cpu_s(receiver.pid)
    begun = time.perf_counter()
    senders = [_sender(receiver, files) for _ in range(associations)]
    failed = [sender.wait() for sender in senders]
    taken_s = time.perf_counter() - begun
    assert not any(failed), f"{receiver.name} did not take everything"
    result.per_s.append(len(files) * associations / taken_s)
    result.mb_per_s.append(size_mb / taken_s)
    result.cpu_s_per_gb.append((_cpu_s(receiver.pid) - cpu_s) / size_mb * 1000)
    result.peak_mb = memory_mb("VmHWM", receiver.pid)


def _sender(receiver: Receiver, files: Sequence[Path]) -> subprocess.Popen[bytes]:
    words = [
        "storescu",
        "-R",
        "--max-send-pdu",
        "131072",
        "+II",
        "+IR",
        str(len(files)),
        "+IS",
        str(len(files)),
    ]
    return subprocess.Popen(
        [*words, "-aec", "RADNODE", "127.0.0.1", str(receiver.port), *map(str, files)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _print(table: dict[tuple[str, str], Result], names: Sequence[str]) -> None:
    for load in dict.fromkeys(load for load, _ in table):
        print(f"\n{load}")
        ours = table[load, names[0]]
        for name in names:
            result = table[load, name]
            ratios = [a / b for a, b in zip(ours.per_s, result.per_s, strict=True)]
            ratio = f"{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(
                f"  {name:16} {statistics.median(result.per_s):8.1f} instances/s "
                f"{statistics.median(result.mb_per_s):7.1f} MB/s "
                f"{statistics.median(result.cpu_s_per_gb):6.2f} CPU s/GB "
                f"peak {result.peak_mb:6.0f} MB   node/{name}: {ratio}"
            )


def _print_latency(receiver: Receiver, files: Sequence[Path]) -> None:
    """Associate and send one by one from Python; print the time to each acceptance and each Success."""
    scu = AE("BENCH")
    first = pydicom.dcmread(files[0])
    scu.requested_contexts = [build_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)]
    accepted_ms = []
    for _ in range(20):
        begun = time.perf_counter()
        association = scu.associate("127.0.0.1", receiver.port, ae_title="RADNODE")
        accepted_ms.append((time.perf_counter() - begun) * 1000)
        association.release()
    association = scu.associate("127.0.0.1", receiver.port, ae_title="RADNODE")
    taken_ms = []
    series_uid = pydicom.uid.generate_uid()
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.SOPInstanceUID = pydicom.uid.generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID = series_uid
        begun = time.perf_counter()
        assert association.send_c_store(dataset).Status == 0
        taken_ms.append((time.perf_counter() - begun) * 1000)
    association.release()
    taken_ms.sort()
    print(
        f"{receiver.name:16} sender in Python: association {statistics.median(accepted_ms):.1f} ms, "
        f"acknowledgement median {statistics.median(taken_ms):.1f} ms, "
        f"99th percentile {taken_ms[int(0.99 * (len(taken_ms) - 1))]:.1f} ms"
    )


def _print_disk(folder: Path, files: Sequence[Path]) -> None:
    """Write the files one after the other, synced with their names; print how many the disk takes."""
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    contents = [file.read_bytes() for file in files]
    os.sync()
    begun = time.perf_counter()
    for number, content in enumerate(contents):
        with (folder / str(number)).open("wb", buffering=0) as copy:
            copy.write(content)
            os.fsync(copy.fileno())
        os.fsync(handle)
    taken_s = time.perf_counter() - begun
    os.close(handle)
    print(f"disk             {len(files) / taken_s:.1f} files/s, each synced with its name before the next")


@contextmanager
def _receivers(root: Path) -> Iterator[list[Receiver]]:
    """Start every receiver that is installed, the node first."""
    node = NodeProcess(
        root / "node",
        '[node]\nae_title = "RADNODE"\n[accept]\nreserve_gb = 0.1\n'
        "[accept.dimse]\nport = 0\n[assemble]\nquiet_s = 3600\n",
    )
    node.start()
    found = [Receiver("node", node.port, node.pid)]
    others: list[subprocess.Popen[bytes]] = []

    def start(name: str, words: Sequence[str | Path], port: int) -> None:
        log = (root / f"{name}.log").open("wb")
        process = subprocess.Popen([*words], env=ENVIRONMENT, stdout=log, stderr=log)
        others.append(process)
        wait_until(lambda: listens(port), f"{name} listens", within_s=30)
        found.append(Receiver(name, port, process.pid))

    try:
        for name in ("orthanc", "storescp", "bare pynetdicom"):
            (root / name).mkdir()
        port = free_port()
        if orthanc.PROGRAM:
            config = root / "orthanc.json"
            config.write_text(
                f'{{"StorageDirectory": "{root}/orthanc", "IndexDirectory": "{root}/orthanc",'
                f'"Name": "bench", "DicomPort": {port}, "DicomAet": "RADNODE", "HttpServerEnabled": false,'
                '"DicomAlwaysAllowStore": true, "DicomThreadsCount": 16}'
            )
            start("orthanc", [orthanc.PROGRAM, config], port)
        if storescp := shutil.which("storescp"):
            port = free_port()
            words = [storescp, "--fork", "-pdu", "131072", "-od", root / "storescp", str(port)]
            start("storescp", words, port)
        port = free_port()
        start("bare pynetdicom", [sys.executable, "-c", BARE, root / "bare pynetdicom", str(port)], port)
        yield found
    finally:
        for process in others:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        node.stop()


def _slices(folder: Path) -> list[Path]:
    affine = phantoms.make_affine(spacing_mm=(1.5, 0.7, 0.7))
    noise = np.random.default_rng(1).integers(-1000, 1000, (SLICES, ROWS, COLUMNS), dtype=np.int16)
    return phantoms.write_ct_series(folder, noise, affine)


def _large(path: Path, megabytes: int) -> Path:
    slices = max(2, megabytes * 1_000_000 // (ROWS * COLUMNS * 2))
    array = np.zeros((slices, ROWS, COLUMNS), np.int16)
    phantoms.write_enhanced_ct(path, array, phantoms.make_affine(spacing_mm=(1.0, 0.7, 0.7)))
    return path


def _family(pid: int) -> list[int]:
    """Return a process and its children."""
    found = [pid]
    with suppress(OSError):  # it may end meanwhile: storescp has one for each association
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += _family(int(child))
    return found


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, its children, and those that have ended."""
    ticks = 0
    for one in _family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += sum(int(fields[i]) for i in (11, 12, 13, 14))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(*(int(word) for word in [*sys.argv[1:], *("3", "500")[len(sys.argv) - 1 :]]))
