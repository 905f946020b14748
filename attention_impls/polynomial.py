"""Polynomials of a dot product, as they are and as products of features of a query and of a key.

p(q.k) = sum_n a_n (q.k)^n = phi(q)^T W phi(k): the features phi are the monomials of the channels up to the
order, and W is diagonal. Features lie as [groups, features, rows], so that every monomial is a contiguous row.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import combinations_with_replacement

import torch
from torch import Tensor


@dataclass(frozen=True)
class Polynomial:
    """The weights p(x) = sum_n a_n x^n of an attention, x = q.k, and their features.

    Args:
        width: channels of a query and a key.
        coefficients: a_0, a_1, ..., all above 0. A feature of degree n carries sqrt(a_n), for the sums of keys
            and the features of queries to be of like size.
        packed: one monomial for every multiset of channels; else, up to order 2, the plain outer product of
            the channels, which has x_a x_b and x_b x_a.
        epsilon: is added to the sum of the weights.
    """

    width: int
    coefficients: tuple[float, ...]
    packed: bool = True
    epsilon: float = 0.0

    @property
    def order(self) -> int:
        """The highest power."""
        return len(self.coefficients) - 1

    @cached_property
    def count(self) -> int:
        """Features of a key: C(width + order, order) packed, 1 + width + width^2 as an outer product."""
        return self._starts[-1]

    def of(self, scores: Tensor) -> Tensor:
        """p of every score, by Horner's rule."""
        return _horner(scores, self.coefficients)

    def slope(self, scores: Tensor) -> Tensor:
        """p' of every score."""
        return _horner(scores, tuple(n * a for n, a in enumerate(self.coefficients))[1:])

    def features(self, x: Tensor) -> Tensor:
        """Phi of rows x [groups, width, rows] -> [groups, features, rows]."""
        return self._features_up_to(x, self.order)

    def weigh(self, sums: Tensor) -> Tensor:
        """W times sums [groups, features, columns], in place."""
        if not self.packed or self.order < 2:
            return sums
        return sums.mul_(_weights(self.width, self.order, sums.device, sums.dtype))

    def pullback(self, x: Tensor, gradient: Tensor) -> Tensor:
        """The gradient of rows x [groups, width, rows] from that of their features, which it overwrites.

        Of an outer product it takes the gradient to be symmetric in the two channels, as sums of features are.
        """
        if not self.order:
            return torch.zeros_like(x)
        found = self._pullback_of_products(x, gradient)
        return found.add_(gradient[:, 1 : 1 + self.width], alpha=math.sqrt(self.coefficients[1]))

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        """Where the features of each degree start, and where the last end."""
        degrees = range(self.order + 1)
        sizes = [_monomials(self.width, n) if self.packed else self.width**n for n in degrees]
        return tuple(sum(sizes[:n]) for n in range(self.order + 2))

    def _ratio(self, degree: int) -> float:
        """What a feature carries beyond that of one degree less."""
        return math.sqrt(self.coefficients[degree] / self.coefficients[degree - 1])

    def _of_degree(self, features: Tensor, degree: int) -> Tensor:
        return features[:, self._starts[degree] : self._starts[degree + 1]]

    def _features_up_to(self, x: Tensor, order: int) -> Tensor:
        features = x.new_empty(len(x), self._starts[order + 1], x.shape[2])
        features[:, 0] = math.sqrt(self.coefficients[0])
        if order:
            torch.mul(x, math.sqrt(self.coefficients[1]), out=self._of_degree(features, 1))
        for degree in range(2, order + 1):
            factors, level = x * self._ratio(degree), self._of_degree(features, degree)
            below = self._of_degree(features, degree - 1)
            if not self.packed:
                torch.mul(factors[:, :, None], below[:, None], out=self._pairs(level))
                continue
            sizes = _first_channels(self.width, degree)
            for size, factor, part in zip(sizes, *_split(sizes, factors, level), strict=True):
                torch.mul(factor, _last(below, size), out=part)
        return features

    def _pairs(self, products: Tensor) -> Tensor:
        """The features of degree 2 of an outer product as [groups, width, width, rows]."""
        return torch.unflatten(products, 1, (self.width, self.width))

    def _pullback_of_products(self, x: Tensor, gradient: Tensor) -> Tensor:
        """What the features of degree 2 and more pass to x; they pass to those of degree 1, too, when packed."""
        found = torch.zeros_like(x)
        if self.order < 2:
            return found
        if not self.packed:
            products = self._pairs(self._of_degree(gradient, 2))
            return products.mul_(x[:, None]).sum(2).mul_(2 * math.sqrt(self.coefficients[2]))
        lower = self._features_up_to(x, self.order - 1)
        for degree in range(self.order, 1, -1):
            factors, of_factors = x * self._ratio(degree), torch.empty_like(x)
            level, below = self._of_degree(gradient, degree), self._of_degree(lower, degree - 1)
            of_below = self._of_degree(gradient, degree - 1)
            sizes = _first_channels(self.width, degree)
            of_channels = torch.split(of_factors, 1, 1)
            for size, factor, part, of_factor in zip(
                sizes, *_split(sizes, factors, level), of_channels, strict=True
            ):
                torch.sum(part * _last(below, size), 1, keepdim=True, out=of_factor)
                _last(of_below, size).addcmul_(factor, part)
            found.add_(of_factors, alpha=self._ratio(degree))
        return found


def _horner(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    if len(coefficients) < 2:
        return torch.full_like(x, sum(coefficients))
    *lower, highest = coefficients
    result = x * highest
    for coefficient in reversed(lower[1:]):
        result.add_(coefficient).mul_(x)
    return result.add_(lower[0])


def _split(sizes: list[int], factors: Tensor, level: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Every channel, and the monomials that it is the first of."""
    return torch.split(factors, 1, 1), torch.split(level, sizes, 1)


def _last(x: Tensor, size: int) -> Tensor:
    return x.narrow(1, x.shape[1] - size, size)


@cache
def _first_channels(width: int, degree: int) -> list[int]:
    """How many monomials each channel is the first of. It multiplies there the monomials of one degree less
    without earlier channels, which lie together at the end."""
    return [_monomials(width - channel, degree - 1) for channel in range(width)]


def _monomials(width: int, degree: int) -> int:
    """Monomials of that degree in so many channels."""
    return math.comb(width + degree - 1, degree)


@lru_cache(maxsize=32)
def _weights(width: int, order: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The diagonal of W, [features, 1]: kept on the device, for a copy there would wait inside a timed call."""
    with torch.inference_mode(False):
        diagonal = torch.frombuffer(_multiplicities(width, order), dtype=torch.float64)
        return diagonal.to(device, dtype)[:, None]


@cache
def _multiplicities(width: int, order: int) -> array[float]:
    """How often each monomial stands in the powers of a dot product: n! / (m_1! m_2! ...)."""
    found = array("d")
    for degree in range(order + 1):
        for channels in combinations_with_replacement(range(width), degree):
            repeats = math.prod(math.factorial(m) for m in Counter(channels).values())
            found.append(math.factorial(degree) // repeats)
    return found
