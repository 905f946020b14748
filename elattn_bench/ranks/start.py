"""The group that a plan's cases need: processes on this machine, or those that torchrun has started. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from elattn_bench import allowance
from elattn_bench.config import Plan
from elattn_bench.device import gpu_names
from elattn_bench.errors import UsageError
from elattn_bench.ranks import torchrun
from elattn_bench.ranks.group import RankGroup, Share
from elattn_bench.ranks.meeting_place import meeting_place
from elattn_bench.ranks.member import LocalMember
from elattn_bench.ranks.world import World, started_by_torchrun
from elattn_bench.worker import Settings


@contextmanager
def group_for(plan: Plan) -> Iterator[RankGroup | None]:
    """The plan's ranks, not started yet; None where no case is spread. They are gone afterwards.

    Raises:
        UsageError: torchrun has started fewer processes than there are ranks, or several for none.
    """
    most = most_ranks(plan)
    world = World.of_this_process() if most or started_by_torchrun() else None
    if world is not None:
        _check(world, most)
    if not most:
        yield None
    elif world is not None:
        with (
            torchrun.gathered(world, settings_for(plan, world.on_this_host, 0)) as (members, address_of),
            RankGroup(members, address_of, share_of(plan, world.on_this_host)) as group,
        ):
            yield group
    else:
        with _spawned(plan, most) as group:
            yield group


def most_ranks(plan: Plan) -> int:
    """Ranks of the largest world; 0 where no case is spread."""
    return max((case.ranks or 0 for case in plan.cases), default=0)


def share_of(plan: Plan, on_this_host: int) -> Share:
    """What each of so many ranks on a host gets of it."""
    cpus = _cpus()
    threads = plan.threads or max(1, cpus // on_this_host)
    if plan.device == "cuda":
        return Share(threads, plan.memory_limit, None)
    return Share(threads, plan.memory_limit // on_this_host, cpus)


def settings_for(plan: Plan, on_this_host: int, rank: int) -> Settings:
    """Of the worker of the rank with that number on its host."""
    share = share_of(plan, on_this_host)
    return Settings(
        plan.device, plan.budget, share.threads, share.memory, plan.seed, plan.input_std, gpu=rank
    )


@contextmanager
def _spawned(plan: Plan, most: int) -> Iterator[RankGroup]:
    """Processes on this machine, which meet in a file."""
    gpus = len(gpu_names()) if plan.device == "cuda" else None
    count = most if gpus is None else min(most, gpus)
    members = [LocalMember(settings_for(plan, most, rank)) for rank in range(count)]
    with (
        meeting_place() as directory,
        RankGroup(members, lambda task: f"file://{directory}/{task}", share_of(plan, most), gpus) as group,
    ):
        yield group


def _check(world: World, most: int) -> None:
    if most > world.size:
        raise UsageError(
            f"--ranks {most}: {world}, and every rank is one; start as many, with torchrun's --nnodes and "
            "--nproc-per-node, or sweep over fewer"
        )
    if not most and world.is_torchruns and world.size > 1:
        raise UsageError(f"{world}, but no case is spread over them; add --ranks, or sweep without torchrun")


def _cpus() -> int:
    """Cores that this process may use: torch takes one thread for each."""
    quota = allowance.cpu_quota()
    cores = min(len(allowance.cpus()), psutil.cpu_count(logical=False) or 1024)
    return max(1, min(cores, int(quota)) if quota else cores)
