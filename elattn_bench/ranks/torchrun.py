"""Ranks that torchrun has started, on one host or on many: the first is the sweep, the others serve it.

Each process owns a worker, so that an attention which dies leaves torchrun's processes alive. The first process
leaves its address in torchrun's store, and the others connect to it; the groups of the cases meet in the same store.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import Any

from elattn_bench.errors import WorkerError
from elattn_bench.ranks.member import LocalMember
from elattn_bench.ranks.nouns import Member
from elattn_bench.ranks.world import JOINING, World
from elattn_bench.units import Seconds, format_duration
from elattn_bench.worker import Settings
from elattn_bench.worker_process import HUNG_UP

ANSWERING: Seconds = 60.0  # that an answer may take beyond its time limit: a worker's start and end included
LOOK: Seconds = 0.1  # how soon whoever has come is seen
CONTROL = "control"  # key of the sweep's address and secret
SECRET_BYTES = 32


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
    with socket.create_server(("127.0.0.1" if is_alone else "", 0)) as server:
        host = "127.0.0.1" if is_alone else world.address
        store.set(CONTROL, f"{host}:{server.getsockname()[1]}:{secret.hex()}")
        remote = _accepted(server, secret, world.size - 1)
    try:
        first = LocalMember(replace(settings, gpu=world.local_rank), socket.gethostname())
        for rank, member in remote.items():
            member.begin(rank, settings)
        yield [first, *(remote[rank] for rank in sorted(remote))], world.address_of
    finally:
        for member in remote.values():
            member.close()


def _accepted(server: socket.socket, secret: bytes, count: int) -> dict[int, RemoteMember]:
    """Those that connect and know the secret, by rank, until so many ranks have come.

    Raises:
        WorkerError: some do not come.
    """
    arrived: queue.SimpleQueue[tuple[int, RemoteMember]] = queue.SimpleQueue()
    members: dict[int, RemoteMember] = {}
    deadline = time.monotonic() + JOINING
    server.settimeout(LOOK)
    while len(members) < count:
        if time.monotonic() > deadline:
            raise _missing(set(range(1, count + 1)) - members.keys())
        with contextlib.suppress(OSError):  # nobody came, or left at once
            came, _ = server.accept()
            threading.Thread(target=_greet, args=(came, secret, arrived), daemon=True).start()
        while not arrived.empty():
            rank, member = arrived.get()
            members[rank] = member
    return members


def _greet(came: socket.socket, secret: bytes, arrived: queue.SimpleQueue[tuple[int, RemoteMember]]) -> None:
    # In a thread for each: whoever else finds this port, a scanner say, may hang up, lie, or say nothing for ever.
    connection: Connection = Connection(came.detach())
    try:
        deliver_challenge(connection, secret)
        answer_challenge(connection, secret)
        rank, host, local_rank = connection.recv()
    except (*HUNG_UP, OSError, AuthenticationError):
        connection.close()
    else:
        arrived.put((rank, RemoteMember(connection, host, local_rank)))


def _missing(ranks: set[int]) -> WorkerError:
    return WorkerError(
        f"the ranks {', '.join(map(str, sorted(ranks)))} have not come in {format_duration(JOINING)}"
    )


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
        """As ``Worker.call``.

        Raises:
            WorkerError: the process has gone. No row is written of the case, so ``--resume`` measures it.
        """
        return self._ask("call", (target, *arguments), {"timeout": timeout}, timeout + ANSWERING)

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
    # Ctrl-C ends it at once: it has nothing to save, and may wait within torch, where Python hears no signal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection = _connected(world)
    with contextlib.suppress(*HUNG_UP, OSError):
        connection.send((world.rank, socket.gethostname(), world.local_rank))
        _Server(connection, LocalMember(connection.recv(), socket.gethostname())).run()


def _connected(world: World) -> Connection:
    try:
        host, port, secret = world.store().get(CONTROL).decode().rsplit(":", 2)
        return Client((host, int(port)), authkey=bytes.fromhex(secret))
    except (RuntimeError, *HUNG_UP, OSError, AuthenticationError) as error:
        raise WorkerError(f"rank {world.rank}: the sweep, which is rank 0, does not begin: {error}") from None


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
