"""Ranks that torchrun has started, on one host or on many: the first is the sweep, the others serve it.

Each process owns a worker, so that an attention which dies leaves torchrun's processes alive. The first process
leaves its address in torchrun's store, and the others connect to it; the groups of the cases meet in the same store.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from elattn_bench.errors import WorkerError
from elattn_bench.ranks.member import LocalMember
from elattn_bench.ranks.nouns import Member
from elattn_bench.results import Skipped
from elattn_bench.units import Seconds, format_duration
from elattn_bench.worker import Settings
from elattn_bench.worker_process import HUNG_UP

JOINING: Seconds = 300.0  # for all processes to be there: nodes of a cluster do not start at once
ANSWERING: Seconds = 60.0  # that an answer may take beyond its time limit: a worker's start and end included
PREFIX = "elattn-bench"
CONTROL = "control"  # key of the sweep's address and secret
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class World:
    """What torchrun says of this process (torch.distributed.run, "Environment Variables").

    rank, size: its number, and how many processes there are; local_rank, on_this_host: the same of its host.
    address, port: of the store.
    is_torchruns: whether torchrun has set this, and not something else that sets RANK and WORLD_SIZE.
    has_store: whether somebody runs the store already.
    attempt: which restart of torchrun's this is.
    """

    rank: int
    size: int
    local_rank: int
    on_this_host: int
    address: str
    port: int
    is_torchruns: bool = True
    has_store: bool = True
    attempt: str = "0"

    @classmethod
    def of_this_process(cls) -> World | None:
        """The world that this process was started in; None where nobody says that it is one of many."""
        known = os.environ
        if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= known.keys():
            return None
        rank, size = int(known["RANK"]), int(known["WORLD_SIZE"])
        return cls(
            rank,
            size,
            int(known.get("LOCAL_RANK", rank)),
            int(known.get("LOCAL_WORLD_SIZE", size)),
            known["MASTER_ADDR"],
            int(known["MASTER_PORT"]),
            "TORCHELASTIC_RUN_ID" in known,
            known.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            known.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )

    def address_of(self, task: int) -> str:
        """Where the ranks of the task with that number meet."""
        return f"tcp://{self.address}:{self.port}/{PREFIX}/{self.attempt}/{task}"

    def store(self) -> Any:
        """The store that all processes share."""
        from datetime import timedelta

        import torch.distributed as dist

        store = dist.TCPStore(  # type: ignore[attr-defined]
            self.address,
            self.port,
            is_master=self.rank == 0 and not self.has_store,
            timeout=timedelta(seconds=JOINING),
            wait_for_workers=False,
        )
        return dist.PrefixStore(f"{PREFIX}/{self.attempt}", store)  # type: ignore[attr-defined]


def serving() -> World | None:
    """The world of a process that serves another one's sweep; None in the sweep itself."""
    world = World.of_this_process()
    return world if world is not None and world.rank > 0 else None


@contextmanager
def gathered(world: World, settings: Settings) -> Iterator[tuple[Sequence[Member], Callable[[int], str]]]:
    """The members of all processes, in the order of the ranks, and where the ranks of a task meet.

    Args:
        settings: of the first worker; the others get them with the number of their own GPU.

    Raises:
        WorkerError: the others do not come.
    """
    store, secret = world.store(), secrets.token_bytes(SECRET_BYTES)
    is_alone = world.on_this_host == world.size
    with Listener(("127.0.0.1" if is_alone else "", 0), authkey=secret) as listener:
        host = "127.0.0.1" if is_alone else world.address
        store.set(CONTROL, f"{host}:{listener.address[1]}:{secret.hex()}")
        remote = _accepted(listener, world.size - 1)
    try:
        first = LocalMember(replace(settings, gpu=world.local_rank), socket.gethostname())
        for rank, member in remote.items():
            member.begin(rank, settings)
        yield [first, *(remote[rank] for rank in sorted(remote))], world.address_of
    finally:
        for member in remote.values():
            member.close()


def _accepted(listener: Listener, count: int) -> dict[int, RemoteMember]:
    """Those that connect, by rank."""
    arrived: queue.SimpleQueue[Connection] = queue.SimpleQueue()

    def accept() -> None:
        for _ in range(count):
            with contextlib.suppress(OSError):
                arrived.put(listener.accept())

    threading.Thread(target=accept, daemon=True).start()
    members: dict[int, RemoteMember] = {}
    deadline = time.monotonic() + JOINING
    while len(members) < count:
        try:
            connection = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            missing = sorted(set(range(1, count + 1)) - members.keys())
            raise WorkerError(
                f"the ranks {', '.join(map(str, missing))} have not come in {format_duration(JOINING)}"
            ) from None
        rank, host, local_rank = connection.recv()
        members[rank] = RemoteMember(connection, host, local_rank)
    return members


class RemoteMember:
    """The worker of another of torchrun's processes."""

    def __init__(self, connection: Connection, host: str, local_rank: int) -> None:
        self.host = host
        self._connection, self._local_rank = connection, local_rank
        self._rank = 0
        self._number = 0
        self._sending = threading.Lock()

    def begin(self, rank: int, settings: Settings) -> None:
        """Tell it what its worker is to be."""
        self._rank = rank
        self._send(replace(settings, gpu=self._local_rank))

    def environment(self) -> dict[str, Any]:
        """What its worker says of torch and its device; starts it."""
        described: dict[str, Any] = self._ask("environment", (), {}, ANSWERING * 4)
        return described

    def call(self, target: str, *arguments: Any, timeout: Seconds) -> Any:
        """As ``Worker.call``. Where the process has gone, the case has its reason; the next call raises."""
        try:
            return self._ask("call", (target, *arguments), {"timeout": timeout}, timeout + ANSWERING)
        except WorkerError as error:
            if not self._connection.closed:
                raise
            return Skipped("error", str(error))

    def end(self) -> None:
        """End what its worker does at this moment."""
        with contextlib.suppress(WorkerError):
            self._send(("renew", self._number, (), {}))

    def renew(self) -> None:
        """Nothing: its process has put a fresh worker there when it ended the other."""

    def close(self) -> None:
        """Let it leave."""
        self._connection.close()

    def _ask(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any], limit: Seconds) -> Any:
        self._number += 1
        self._send((method, self._number, arguments, keywords))
        deadline = time.monotonic() + limit
        try:
            while self._connection.poll(max(0.0, deadline - time.monotonic())):
                number, answer = self._connection.recv()
                if number == self._number:
                    if isinstance(answer, Exception):
                        raise WorkerError(f"rank {self._rank}: {answer}")
                    return answer
        except (*HUNG_UP, OSError):
            raise self._gone() from None
        raise WorkerError(
            f"the process of rank {self._rank} does not answer; start all of them anew, with --resume"
        )

    def _send(self, what: Any) -> None:
        try:
            with self._sending:
                self._connection.send(what)
        except (*HUNG_UP, OSError):
            raise self._gone() from None

    def _gone(self) -> WorkerError:
        self._connection.close()
        return WorkerError(
            f"the process of rank {self._rank} has gone; start all of them anew, with --resume"
        )


def serve(world: World) -> None:
    """Do what the sweep asks of this process's worker, until it hangs up.

    Raises:
        WorkerError: the sweep does not begin.
    """
    connection = _connected(world)
    with contextlib.suppress(*HUNG_UP, OSError):
        connection.send((world.rank, socket.gethostname(), world.local_rank))
        _Server(connection, LocalMember(connection.recv(), socket.gethostname())).run()


def _connected(world: World) -> Connection:
    import torch.distributed as dist

    try:
        host, port, secret = world.store().get(CONTROL).decode().rsplit(":", 2)
    except (dist.DistError, RuntimeError) as error:
        raise WorkerError(f"rank {world.rank}: the sweep, which is rank 0, does not begin: {error}") from None
    return Client((host, int(port)), authkey=bytes.fromhex(secret))


class _Server:
    """Listens to the sweep while its worker is busy."""

    def __init__(self, connection: Connection, member: LocalMember) -> None:
        self._connection, self._member = connection, member
        self._sending = threading.Lock()
        self._busy: threading.Thread | None = None

    def run(self) -> None:
        """Until the sweep hangs up."""
        try:
            while True:
                method, *rest = self._connection.recv()
                if method == "renew":
                    self._renew()
                else:
                    self._busy = threading.Thread(target=self._answer, args=(method, *rest), daemon=True)
                    self._busy.start()
        finally:
            self._member.end()
            self._member.close()

    def _renew(self) -> None:
        self._member.end()
        if self._busy is not None:
            self._busy.join()
        self._member.renew()

    def _answer(self, method: str, number: int, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        try:
            answer = getattr(self._member, method)(*arguments, **keywords)
        except Exception as error:
            answer = WorkerError(str(error))
        with contextlib.suppress(*HUNG_UP, OSError), self._sending:
            self._connection.send((number, answer))
