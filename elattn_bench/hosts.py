"""Where the rows of a run were measured, in words: the devices, and the hosts of a cluster. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from elattn_bench.results import Row
from elattn_bench.units import counted

MOST_NAMED = 4  # hosts that a sentence names; run.json has all


def device_names(rows: Iterable[Row]) -> list[str]:
    """The devices that the measured rows name, in the order met; older runs name none."""
    return list(dict.fromkeys(row.device_name for row in rows if row.ok and row.device_name))


def hosts_text(rows: Iterable[Row]) -> str:
    """``on 2 hosts: node-a (NVIDIA H100), node-b (NVIDIA A100)``; devices where they differ; empty of one host."""
    hosts: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row.ok and row.host:
            hosts[row.host][row.device_name] = None
    if len(hosts) < 2:
        return ""
    differ = len({name for names in hosts.values() for name in names}) > 1
    told = [f"{host} ({', '.join(names)})" if differ else host for host, names in sorted(hosts.items())]
    more = f" and {len(told) - MOST_NAMED} more" if len(told) > MOST_NAMED else ""
    return f"on {counted(len(told), 'host')}: {', '.join(told[:MOST_NAMED])}{more}"
