"""What the environment says of this process where it is one of many: torchrun's variables. No torch at import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elattn_bench.errors import UsageError, WorkerError
from elattn_bench.units import Seconds

JOINING: Seconds = 300.0  # for all processes to be there: nodes of a cluster do not start at once
PREFIX = "elattn-bench"
RUN_ID = "TORCHELASTIC_RUN_ID"  # only torchrun sets it
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
HIGHEST_PORT = 2**16 - 1


@dataclass(frozen=True, slots=True)
class World:
    """What is said of this process (torch.distributed.run, "Environment Variables").

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
        """The world that this process was started in; None where it is alone: nobody started others, or WORLD_SIZE=1.

        Raises:
            UsageError: the variables are incomplete, or no numbers that fit together.
        """
        known = os.environ
        if not _is_one_of_many(known):
            return None
        if lacking := [name for name in NEEDED if name not in known]:
            raise _unusable(known, f"without {', '.join(lacking)}")
        rank, size = _number(known, "RANK"), _number(known, "WORLD_SIZE", lowest=1)
        if rank >= size:
            raise _unusable(known, "RANK counts from 0 and is below WORLD_SIZE")
        return cls(
            rank,
            size,
            _number(known, "LOCAL_RANK") if "LOCAL_RANK" in known else rank,
            _number(known, "LOCAL_WORLD_SIZE", lowest=1) if "LOCAL_WORLD_SIZE" in known else size,
            known["MASTER_ADDR"],
            _number(known, "MASTER_PORT", lowest=1, highest=HIGHEST_PORT),
            RUN_ID in known,
            known.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            known.get("TORCHELASTIC_RESTART_COUNT", "0"),
        )

    def __str__(self) -> str:
        processes = f"{self.size} process{'es' * (self.size != 1)}"
        return f"torchrun started {processes}" if self.is_torchruns else f"WORLD_SIZE speaks of {processes}"

    def address_of(self, task: int) -> str:
        """Where the ranks of the task with that number meet."""
        return f"tcp://{self.address}:{self.port}/{PREFIX}/{self.attempt}/{task}"

    def store(self) -> Any:
        """The store that all processes share.

        Raises:
            WorkerError: it cannot be started, or reached.
        """
        from datetime import timedelta

        import torch.distributed as dist

        try:
            store = dist.TCPStore(  # type: ignore[attr-defined]
                self.address,
                self.port,
                is_master=self.rank == 0 and not self.has_store,
                timeout=timedelta(seconds=JOINING),
                wait_for_workers=False,
            )
        except RuntimeError as error:
            first_line = str(error).partition("\n")[0]
            raise WorkerError(
                f"rank {self.rank}: no store at {self.address}:{self.port} (MASTER_ADDR, MASTER_PORT): {first_line}"
            ) from None
        return dist.PrefixStore(f"{PREFIX}/{self.attempt}", store)  # type: ignore[attr-defined]


def started_by_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return RUN_ID in os.environ


def serving() -> World | None:
    """The world of a process that serves another one's sweep; None in the sweep itself."""
    world = World.of_this_process()
    return world if world is not None and world.rank > 0 else None


def _is_one_of_many(known: Mapping[str, str]) -> bool:
    # An address alone, or WORLD_SIZE=1, is what a notebook or a job of one process leaves in its environment.
    if RUN_ID in known:
        return True
    return ("RANK" in known or "WORLD_SIZE" in known) and known.get("WORLD_SIZE") != "1"


def _number(known: Mapping[str, str], name: str, lowest: int = 0, highest: int | None = None) -> int:
    text = known[name]
    if not (
        text.isascii() and text.isdigit() and lowest <= int(text) and int(text) <= (highest or int(text))
    ):
        raise _unusable(known, f"{name} is no number from {lowest} {f'to {highest}' if highest else 'on'}")
    return int(text)


def _unusable(known: Mapping[str, str], why: str) -> UsageError:
    given = " ".join(f"{name}={known[name]}" for name in NEEDED if name in known)
    return UsageError(
        f"{given}: {why}; {', '.join(NEEDED)} say together which rank of a torchrun this process is: unset them to "
        "sweep over ranks on this machine, or start it with torchrun"
    )
