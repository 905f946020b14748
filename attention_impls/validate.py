"""The rules that query, key and value must keep, checked before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attention_impls.nouns import ELEMENT_SIZE, InvalidArgument, causal_only_reason

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = "[batch, heads, seq_len, head_dim]"


def validate_qkv(query: Tensor, key: Tensor, value: Tensor, key_width: int | None = None) -> None:
    """Refuse tensors that no attention here accepts.

    Args:
        query, key, value: floating point, all of one shape [batch, heads, seq_len, head_dim], one dtype
            and one device; no size is zero.
        key_width: last size of query and key where it is another than the value's.

    Raises:
        InvalidArgument: with the rule and what came.
    """
    named = {"query": query, "key": key, "value": value}
    for name, tensor in named.items():
        if tensor.dim() != 4:
            raise InvalidArgument(f"{name} must be {LAYOUT}; it has shape {list(tensor.shape)}")
    if key_width is None or key_width == value.shape[-1]:
        _same("shape", {name: list(tensor.shape) for name, tensor in named.items()})
    else:
        _narrow(query, key, value, key_width)
    _same("dtype", {name: dtype_name(tensor) for name, tensor in named.items()})
    _same("device", {name: str(tensor.device) for name, tensor in named.items()})
    if 0 in query.shape:
        raise InvalidArgument(f"every size of {LAYOUT} must be 1 or more; it is {list(query.shape)}")
    if dtype_name(query) not in ELEMENT_SIZE:
        raise InvalidArgument(
            f"the dtype must be one of {', '.join(ELEMENT_SIZE)}; it is {dtype_name(query)}"
        )


def validate_causal(attention: str, causal: bool) -> None:
    """Refuse a call that is not causal of an attention that has no other form.

    Raises:
        InvalidArgument: in the words of ``AttentionSpec.unsupported_reasons``.
    """
    if not causal:
        raise InvalidArgument(causal_only_reason(attention))


def dtype_name(tensor: Tensor) -> str:
    """Name of the element type as in ``ELEMENT_SIZE``, for example 'float32'."""
    return str(tensor.dtype).removeprefix("torch.")


def _narrow(query: Tensor, key: Tensor, value: Tensor, key_width: int) -> None:
    wanted = [*value.shape[:-1], key_width]
    for name, tensor in (("query", query), ("key", key)):
        if list(tensor.shape) != wanted:
            raise InvalidArgument(
                f"for a value {list(value.shape)} {name} must be [batch, heads, seq_len, {key_width}]; "
                f"it has shape {list(tensor.shape)}"
            )


def _same(what: str, found: dict[str, object]) -> None:
    first, *others = found.values()
    if any(other != first for other in others):  # compared, not hashed: sizes may be symbols of torch.export
        listed = ", ".join(f"{name} {value}" for name, value in found.items())
        raise InvalidArgument(f"query, key and value must have the same {what}; they have {listed}")
