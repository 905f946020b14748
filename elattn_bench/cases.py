"""What to measure: the grid that axes span, and the case, one point of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import attention_impls as impls
from attention_impls import AttentionSpec, Cost, InvalidArgument, Problem, UnknownAttention
from attention_impls.costs import layers
from attention_impls.nouns import UNKNOWN_COST
from attention_impls.sharding import Sharding
from elattn_bench.errors import UsageError
from elattn_bench.knobs import Hyperparameters, KnobAxis, combinations, text_of

LEVELS = ("op", "layer", "block")
MODES = ("forward", "train", "decode")
DTYPES = ("float32", "bfloat16", "float16", "float64")
CACHES = ("hot", "cold")
NO_COST = UNKNOWN_COST
"""Of a call whose work nobody knows; a row leaves it empty."""


@dataclass(frozen=True, slots=True)
class Impl:
    """An attention and, if the user named one, the backend."""

    attention: str
    backend: str | None = None

    @classmethod
    def parse(cls, text: str) -> Impl:
        """The impl written as ``attention`` or ``attention/backend``.

        Raises:
            UsageError: the attention or the backend is unknown; the message lists the known and the nearest.
        """
        attention, slash, backend = text.strip().partition("/")
        try:
            spec = impls.get(attention)
            if slash:
                spec.backend(backend)
        except (UnknownAttention, InvalidArgument) as error:
            raise UsageError(f"{text}: {error}") from None
        return cls(attention, backend if slash else None)

    @property
    def spec(self) -> AttentionSpec:
        """What the library knows of the attention."""
        return impls.get(self.attention)

    @property
    def has_order(self) -> bool:
        """Whether the attention has a polynomial order."""
        return "order" in self.spec.hyperparameters

    def __str__(self) -> str:
        return f"{self.attention}/{self.backend}" if self.backend else self.attention


def is_a_plugin(attention: str) -> bool:
    """Whether the attention is not one of ours: the user's own, or of another package."""
    return attention not in impls.names()


class Labelled:
    """Names of a case and of its row, from their attention, backend, order and other hyperparameters."""

    __slots__ = ()
    attention: str
    backend: str
    order: int | None
    hyperparameters: Hyperparameters

    @property
    def impl(self) -> str:
        """``attention/backend``."""
        return f"{self.attention}/{self.backend}"

    @property
    def label_without_order(self) -> str:
        """What a line is called where orders vary along it."""
        return " ".join(filter(None, (self.impl, text_of(self.hyperparameters, " "))))

    @property
    def label(self) -> str:
        """The impl with its order and the knobs that were asked for: the name of a line in a figure."""
        if self.order is None and not self.hyperparameters:
            return self.impl  # asked for several times per row of a run, which may have 100,000
        order = "" if self.order is None else f"t={self.order}"
        return " ".join(filter(None, (self.impl, order, text_of(self.hyperparameters, " "))))

    @property
    def knobs(self) -> str | None:
        """``latents=64;window=8``: the hyperparameters that were asked for; None where none was."""
        return text_of(self.hyperparameters) or None


@dataclass(frozen=True, slots=True)
class Case(Labelled):
    """One point of the grid: everything that fixes what is measured.

    In mode ``decode`` seq_len is the length of the context, and the call is the step of one more token.

    ranks: over how many ranks the sequence is spread; None where it is not, which is not the same as one rank.
    device_type: of the cluster's devices the kind that it is measured on; empty where nobody asked for one.
    """

    attention: str
    backend: str
    level: str
    mode: str
    dtype: str
    device: str
    causal: bool
    batch: int
    heads: int
    seq_len: int
    dim: int
    order: int | None = None
    cache: str = "hot"
    hyperparameters: Hyperparameters = ()
    ranks: int | None = None
    device_type: str = ""

    @property
    def case_id(self) -> str:
        """A readable key, the same on every machine: two runs are matched by it."""
        causal = "causal" if self.causal else "full"
        sizes = f"b{self.batch}:h{self.heads}:L{self.seq_len}:D{self.dim}"
        order = "" if self.order is None else f":t{self.order}"
        knobs = f":{text_of(self.hyperparameters, ':')}" if self.hyperparameters else ""
        cold = ":cold" if self.cache == "cold" else ""
        ranks = "" if self.ranks is None else f":r{self.ranks}"
        where = f":on-{self.device_type}" if self.device_type else ""
        kind = f"{self.impl}:{self.level}:{self.mode}:{self.dtype}:{causal}"
        return f"{kind}:{sizes}{order}{knobs}{cold}{ranks}{where}"

    @property
    def spec(self) -> AttentionSpec:
        """What the library knows of the attention."""
        return impls.get(self.attention)

    @property
    def problem(self) -> Problem:
        """The attention call inside this case."""
        order = {} if self.order is None else {"order": self.order}
        return Problem(
            batch=self.batch,
            heads=self.heads,
            seq_len=self.seq_len,
            head_dim=self.dim // self.heads,
            dtype=self.dtype,
            device=self.device,
            causal=self.causal,
            backward=self.mode == "train",
            decode=self.decodes,
            hyperparameters={**order, **dict(self.hyperparameters)},
        )

    @property
    def decodes(self) -> bool:
        """Whether the call is one step of a recurrent form."""
        return self.mode == "decode"

    @property
    def tokens(self) -> int:
        """How many tokens a call takes, over the batch."""
        return self.batch if self.decodes else self.batch * self.seq_len

    @property
    def cost(self) -> Cost:
        """Minimal work of one call: the core, and what the level puts around it; 0 where nobody knows."""
        if self.decodes:
            step = self.spec.decode_cost
            return step(self.problem) if step and self.level == "op" else NO_COST
        core = self.spec.cost_of(self.backend, self.problem)
        if self.level == "op" or core == NO_COST:
            return core
        around = layers.projection_cost if self.level == "layer" else layers.block_cost
        return core + around(self.spec, self.problem)

    @property
    def guessed_cost(self) -> Cost:
        """The cost for orders and estimates: where nobody knows it, what softmax would need."""
        known = self.cost
        return known if known != NO_COST or self.decodes else impls.get("softmax").cost(self.problem)

    @property
    def context_cost(self) -> Cost:
        """Minimal work before the first call: of a context that has to be filled in token by token."""
        backend = self.spec.backends.get(self.backend)
        recurrence = backend.recurrence if backend and self.decodes else None
        # States that merge fill in a context of any length in no time.
        return (
            self.spec.cost_of(self.backend, self.problem)
            if recurrence and not recurrence.merge_target
            else NO_COST
        )

    @property
    def state_bytes(self) -> int | None:
        """Size of the state that a decode step starts from, where the attention has one; of a cache its tokens."""
        size = self.spec.state_bytes
        return size(self.problem) if size else None

    @property
    def analytic_memory_bytes(self) -> int | None:
        """What one call holds above its inputs by formula; None where there is none: see ``block_workspace``.

        Where the sequence is spread, on the rank that holds most.
        In mode ``decode`` what it must hold at least, whatever the backend: the new state and the output; of a
        cache the output alone, for the new row is written where there is room.
        """
        if self.ranks is not None:
            form = self.sharding
            return form.workspace(self.problem, self.ranks) if form and form.workspace else None
        if self.decodes:
            output = self.batch * self.dim * self.problem.element_size
            if self.state_bytes is None:
                return None
            return output if self.spec.state_grows else self.state_bytes + output
        backend = self.spec.backends.get(self.backend)
        if backend is None or backend.workspace is None:
            return None
        if self.level == "block":
            return layers.block_workspace(backend, self.problem)
        return backend.workspace(self.problem, self.level == "layer")

    @property
    def sharding(self) -> Sharding | None:
        """How the backend works on a sequence that is spread over ranks, or None where it does not."""
        backend = self.spec.backends.get(self.backend)
        return backend.sharding if backend else None

    @property
    def received_bytes_formula(self) -> int | None:
        """What the rank that receives most receives in one call by formula; None where the sequence is not spread."""
        form = self.sharding
        return form.received(self.problem, self.ranks) if form and self.ranks is not None else None

    @property
    def params(self) -> int | None:
        """Learned parameters: of the attention itself, at ``layer`` also of projections, at ``block`` of all.

        None where they are a module's that cannot be built.
        """
        own = self.spec.own_layer
        if own is not None and self.level == "layer":
            return own.params(self.dim, self.heads)
        if self.level == "op":
            return self.spec.core_params(self.problem)
        if self.level == "block":
            return layers.block_params(self.spec, self.problem)
        return self.spec.layer_params(self.problem)

    def unsupported_reasons(self) -> list[str]:
        """All reasons why the case cannot run here; empty when it can."""
        reasons = self.spec.unsupported_reasons(self.backend, self.problem)
        if self.spec.own_layer and self.level != "layer":
            reasons.append(f"{self.attention} is a module: measure it with --level layer")
        if self.decodes and self.level != "op":
            reasons.append(
                f"mode decode steps the core alone, without the {self.level} around it; use --level op"
            )
        return reasons if self.ranks is None else [*reasons, *self._spreading_reasons(self.ranks)]

    def _spreading_reasons(self, ranks: int) -> Iterator[str]:
        """Why the case cannot run on a sequence that is spread over ranks."""
        if self.decodes or self.level != "op" or self.cache != "hot":
            yield "a sequence spread over ranks is measured at --level op, --cache hot, in mode forward or train"
        if self.seq_len < ranks:
            yield f"{self.seq_len} positions cannot be spread over {ranks} ranks: each needs one at least"
        form = self.sharding
        if form is None:
            spread = [name for name, known in self.spec.backends.items() if known.sharding]
            use = f"; use {' or '.join(f'{self.attention}/{name}' for name in spread)}" if spread else ""
            yield f"{self.impl} has no form for a sequence that is spread over ranks{use}"
        else:
            yield from form.requires(self.problem, ranks)


@dataclass(frozen=True, slots=True)
class Grid:
    """The axes of a sweep; ``cases`` is their product, in which an attention has its own knobs alone."""

    impls: tuple[Impl, ...]
    seq_len: tuple[int, ...]
    dim: tuple[int, ...]
    order: tuple[int, ...]
    batch: tuple[int, ...]
    heads: tuple[int, ...]
    dtype: tuple[str, ...]
    causal: tuple[bool, ...]
    mode: tuple[str, ...]
    level: tuple[str, ...]
    device: str
    cache: tuple[str, ...] = ("hot",)
    knobs: tuple[KnobAxis, ...] = ()
    ranks: tuple[int | None, ...] = (None,)
    device_type: tuple[str, ...] = ("",)

    def cases(self) -> list[Case]:
        """Every case once. Order is an axis only of attentions that have one."""
        self._check_heads()
        cases = dict.fromkeys(itertools.chain.from_iterable(map(self._impl_cases, self.impls)))
        return list(cases)

    def upper_bound(self) -> int:
        """At most this many cases, counted without making them."""
        sizes = (self.seq_len, self.dim, self.order, self.batch, self.heads, self.ranks)
        words = (self.dtype, self.causal, self.mode, self.level, self.cache, self.device_type)
        of_one_impl = math.prod(map(len, (*sizes, *words)))
        variants = (math.prod(len(axis.values) for axis in self._knobs_of(impl)) for impl in self.impls)
        return of_one_impl * sum(variants)

    def _knobs_of(self, impl: Impl) -> list[KnobAxis]:
        return [each for each in self.knobs if each.attention == impl.attention]

    def _impl_cases(self, impl: Impl) -> Iterator[Case]:
        orders: Sequence[int | None] = self.order if impl.has_order else (None,)
        for order in orders:
            if order is not None and (refusal := impl.spec.hyperparameters["order"].refusal(order)):
                raise UsageError(f"--order {order}: {refusal}")
        variants = list(itertools.product(orders, combinations(self._knobs_of(impl))))
        for level, mode, dtype, causal, batch, heads, dim, variant, seq_len, place in itertools.product(
            self.level,
            self.mode,
            self.dtype,
            self.causal,
            self.batch,
            self.heads,
            self.dim,
            variants,
            self.seq_len,
            list(itertools.product(self.cache, self.ranks, self.device_type)),
        ):
            (order, knobs), (cache, ranks, device_type) = variant, place
            yield _resolve(
                impl,
                Case(
                    impl.attention, impl.backend or "", level, mode, dtype, self.device,
                    # A token sees what came before it: a decode case is causal, and there once.
                    causal or mode == "decode", batch, heads, seq_len, dim, order, cache, knobs,
                    ranks, device_type,
                ),
            )  # fmt: skip

    def _check_heads(self) -> None:
        for dim, heads in itertools.product(self.dim, self.heads):
            if dim % heads:
                raise UsageError(
                    f"--dim {dim} is not divisible by --heads {heads}; every head needs the same width: "
                    f"choose dims that are multiples of {heads}, or other heads"
                )


def _resolve(impl: Impl, case: Case) -> Case:
    """The case with its backend: the one asked for, else the best that can run it."""
    if impl.backend:
        return case
    best = replace(case, backend=impl.spec.best_backend(case.problem))
    if case.ranks is None:
        return best
    choices = (replace(case, backend=name) for name in impl.spec.backends)
    return next((each for each in choices if not each.unsupported_reasons()), best)
