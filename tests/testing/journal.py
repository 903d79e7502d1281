"""A program with a journal on a simulated disk: acknowledges numbers once they are secured. For what disks do to it."""

from __future__ import annotations

import struct
import zlib
from typing import Any, ClassVar

from zmesh.testing import Checker, DiskFile, Draw, Host, Process, Settings, Subject, World

NAME = "journal"
RECORD = struct.Struct(">II")  # number, its checksum
WRITE_S = 0.05


class JournalProcess(Process):
    """Appends the next number, secures it, and only then says so."""

    syncs: ClassVar[bool] = True
    syncs_directory: ClassVar[bool] = True
    checks: ClassVar[bool] = True
    gives_up_on_errors: ClassVar[bool] = True

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.write_at: float | None = None
        self.numbers: list[int] = []

    def start(self, now: float) -> None:
        try:
            self._open()
        except OSError:
            self.write_at = None  # a person must look at the disk; the next start tries again
            return
        self.host.observe(("recovered", self.numbers[-1] if self.numbers else 0, tuple(self.numbers)))
        self.write_at = now + WRITE_S

    def next_deadline(self) -> float | None:
        return self.write_at

    def handle_timeout(self, now: float) -> None:
        number = (self.numbers[-1] if self.numbers else 0) + 1
        self.write_at = now + WRITE_S
        try:
            self._append(number)
        except OSError:
            if self.gives_up_on_errors:  # what a failed sync has secured, nobody knows: only a new start can tell
                self.write_at = None
                return
        self.host.observe(("secured", number))
        self.numbers.append(number)

    def _open(self) -> None:
        is_new = NAME not in self.host.disk.names()
        self.file = self.host.disk.open(NAME, create=True)
        if is_new and self.syncs_directory:
            self.host.disk.sync_directory()
        self.numbers = self._read(self.file)
        self.file.truncate(len(self.numbers) * RECORD.size)
        if self.syncs:
            self.file.sync()

    def _append(self, number: int) -> None:
        self.file.write(len(self.numbers) * RECORD.size, RECORD.pack(number, zlib.crc32(number.to_bytes(4, "big"))))
        if self.syncs:
            self.file.sync()

    def _read(self, file: DiskFile) -> list[int]:
        data, numbers = file.read(), []
        for offset in range(0, len(data) - RECORD.size + 1, RECORD.size):
            number, checksum = RECORD.unpack_from(data, offset)
            if self.checks and checksum != zlib.crc32(number.to_bytes(4, "big")):
                break
            numbers.append(number)
        return numbers


class NothingLost(Checker):
    """What was said to be secured is there after every restart, and nothing else than what was written."""

    secured = 0

    def observed(self, host: Host, observation: Any) -> None:
        if observation[0] == "secured":
            self.secured = observation[1]
            return
        _, last, numbers = observation
        if numbers != tuple(range(1, len(numbers) + 1)):
            self.world.fail(host, "it believes in garbage")
        if last < self.secured:
            self.world.fail(host, "what was secured is gone")
        self.secured = max(self.secured, last)


class JournalSubject(Subject):
    process_class: ClassVar[type[JournalProcess]] = JournalProcess
    settings = Settings(
        "journal",
        nodes=1,
        fault_s=60.0,
        settle_s=5.0,
        faults_per_minute=30.0,
        draws=(
            Draw("power_off", 1, (0.1, 1.0)),
            Draw("kill", 1, (0.1, 1.0)),
            Draw("disk_errors", 1, (0.1, 5.0), (0.05, 0.5)),
            Draw("disk_full", 1, (0.1, 5.0), (0.0, 40.0)),
            Draw("slow_disk", 1, (0.1, 5.0), (0.001, 0.2)),
        ),
    )

    def __init__(self, world: World, scenario: Any) -> None:
        super().__init__(world, scenario)
        self._checker = NothingLost(world)

    def build(self) -> None:
        self.world.watch(self._checker)
        self.world.add("n0", self.process_class).start()

    def complaints(self) -> list[str]:
        host = self.world.hosts["n0"]
        if isinstance(host.process, JournalProcess) and host.process.write_at is None:
            host.kill()
            host.start()
        return [] if self._checker.secured else ["nothing is secured"]
