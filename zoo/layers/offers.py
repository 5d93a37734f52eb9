"""What layers offer to those who look into a network, who ask for these and not for classes."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Attends(Protocol):
    """Has attention inside, whose weights `zoo.layers.attention.recording` collects.

    Attributes:
        attention_maps: how many it adds, side by side.
        signed_attention: whether one is taken from another, so that their sum means nothing.
    """

    attention_maps: int
    signed_attention: bool


@runtime_checkable
class PoolsTokens(Protocol):
    """Makes one vector of tokens `[n, t, d]`."""

    def token_shares(self, maps: list[Any], count: int) -> Any:
        """How much of each token is in the vector, `[n, t]` or `[1, t]`; each row sums to 1.

        Args:
            maps: its own attention weights, `[n, s, t]` each.
            count: number of tokens, `t`.
        """
        ...


@runtime_checkable
class PoolsMap(Protocol):
    """Makes one vector of a map `[n, h, w, c]`, of all places alike."""

    pools_map: bool


@runtime_checkable
class CutsPatches(Protocol):
    """Makes a map of square patches of images.

    Attributes:
        patch: edge of a patch, in pixels.
    """

    patch: int

    def compute_output_shape(self, input_shape: Any) -> Any: ...


@runtime_checkable
class LearnsTokens(Protocol):
    """Puts learned tokens before those of the patches.

    Attributes:
        learned_tokens: number of them.
    """

    learned_tokens: int
