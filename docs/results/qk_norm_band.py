"""How far |2 s q k| of ea-series reaches, at initialisation and after short trainings on associative recall.

    python docs/results/qk_norm_band.py init
    python docs/results/qk_norm_band.py train 0       # a seed

One torch thread, float32. ``outside`` is the share of pairs (of positions and channels) for which the polynomial is off
e^x by more than 1 %.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention_impls import QK_NORMS, AttentionLayer, TransformerBlock

BAND = {
    2: (-0.36, 0.44),
    6: (-1.46, 2.33),
}  # of x = 2 s q k, by order: where the polynomial is within 1 % of e^x
SCALES = {2: (1.0, 0.5, 0.18), 6: (1.0, 0.5, 0.7)}
STEPS = 600
PAIRS = 8  # keys and values of the made-up task
UNLIMITED = 1e9  # a gradient norm that clips nothing


class Seen:
    """Queries and keys of an attention layer at its last call."""

    def __init__(self, layer: AttentionLayer) -> None:
        self.of: dict[str, Tensor] = {}
        for name in ("query", "key"):
            module = layer.norms[name] if name in layer.norms else layer.projections[name]
            module.register_forward_hook(lambda m, a, out, name=name: self.of.update({name: out.detach()}))

    def arguments(self, order: int, scale: float) -> dict[str, float]:
        """Spread of x = 2 s q k over all pairs."""
        x = 2 * scale * self.of["query"][:, :, None] * self.of["key"][:, None]  # [B, L, L, D]
        low, high = BAND[order]
        sizes = x.abs().flatten().sort().values
        return {
            "rms": float(x.square().mean().sqrt()),
            "p99": float(sizes[int(0.99 * len(sizes))]),
            "max": float(sizes[-1]),
            "outside": float(((x < low) | (x > high)).float().mean()),
        }


def init() -> None:
    """One block at initialisation, for a normal input."""
    for order, scales in SCALES.items():
        for scale in scales:
            for kind in QK_NORMS:
                torch.manual_seed(0)
                block = TransformerBlock(
                    "ea-series", 64, 4, backend="eager", qk_norm=kind, order=order, scale=scale
                )
                seen = Seen(block.attention)
                block(torch.randn(4, 64, 64))
                show({"order": order, "scale": scale, "qk_norm": kind, **seen.arguments(order, scale)})


class Recall(nn.Module):
    """Pairs of key and value at eight positions, a key at the ninth: which value had it?"""

    def __init__(self, attention: str, dim: int = 32, **settings: Any) -> None:
        super().__init__()
        self.keys, self.values, self.ask = (nn.Embedding(PAIRS, dim) for _ in range(3))
        self.blocks = nn.ModuleList(
            TransformerBlock(attention, dim, 4, expansion=2, **settings) for _ in range(2)
        )
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, PAIRS))

    def forward(self, keys: Tensor, values: Tensor, asked: Tensor) -> Tensor:
        """Logits of the values, [B, values]."""
        x = torch.cat((self.keys(keys) + self.values(values), self.ask(asked)[:, None]), 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, -1])


def draw(generator: torch.Generator, batch: int) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Keys, values and the key that is asked for; the answers."""
    keys = torch.rand(batch, PAIRS, generator=generator).argsort(1)
    values = torch.randint(0, PAIRS, (batch, PAIRS), generator=generator)
    at, rows = torch.randint(0, PAIRS, (batch,), generator=generator), torch.arange(batch)
    return (keys, values, keys[rows, at]), values[rows, at]


def train(attention: str, seed: int, **settings: Any) -> None:
    """Train one network; show its accuracy, its gradients, and the arguments in each of its blocks."""
    torch.manual_seed(seed)
    net, generator = Recall(attention, **settings), torch.Generator().manual_seed(seed + 100)
    norms = sorted(_steps(net, generator))
    order = settings.get("order")
    seen = [Seen(block.attention) for block in net.blocks] if order else []
    inputs, target = draw(torch.Generator().manual_seed(7), 2000)
    with torch.no_grad():
        accuracy = float((net(*inputs).argmax(-1) == target).float().mean())
        net(*draw(torch.Generator().manual_seed(8), 64)[0])
    found = {"accuracy": accuracy, "gradient_median": norms[len(norms) // 2], "gradient_max": norms[-1]}
    for place, layer in enumerate(seen, 1):
        arguments = layer.arguments(order, settings["scale"])
        found |= {f"{name}_{place}": value for name, value in arguments.items()}
    show({"attention": attention, "seed": seed, **settings, **found})


def _steps(net: nn.Module, generator: torch.Generator) -> list[float]:
    """Train; return the norm of the gradient at every step."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=STEPS, pct_start=0.1)
    norms = []
    for _ in range(STEPS):
        inputs, target = draw(generator, 64)
        loss = F.cross_entropy(net(*inputs), target)
        optimiser.zero_grad()
        loss.backward()
        norms.append(float(nn.utils.clip_grad_norm_(net.parameters(), UNLIMITED)))
        optimiser.step()
        schedule.step()
    return norms


def show(record: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()}), flush=True)


def main(words: list[str]) -> None:
    """What the words ask for."""
    torch.set_num_threads(1)
    if words == ["init"]:
        init()
        return
    seed = int(words[1])
    train("mean", seed)
    train("softmax", seed, backend="math")
    train("linear", seed)
    for order, bounded in ((6, 0.7), (2, 0.18)):
        kinds = [("none", 1.0), ("none", 0.5), ("rms", 0.5), ("layer", 0.5), ("tanh", 1.0), ("tanh", bounded)]
        for kind, scale in kinds:
            train("ea-series", seed, backend="eager", order=order, scale=scale, qk_norm=kind)
    train("element-wise", seed, backend="eager", scale=0.5, qk_norm="rms")


if __name__ == "__main__":
    main(sys.argv[1:])
