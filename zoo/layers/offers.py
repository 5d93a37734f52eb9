"""What layers offer to those who look into a network, who ask for these and not for classes."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Attends(Protocol):
    """Has attention inside, whose weights `zoo.layers.attention.recording` collects."""

    attention_maps: int  # that it adds, side by side
    signed_attention: bool  # whether one is taken from another, so that sums mean nothing


@runtime_checkable
class PoolsTokens(Protocol):
    """Makes one vector of tokens `[n, t, d]`."""

    def token_shares(self, maps: list[Any], count: int) -> Any:
        """How much of each token is in the vector, `[n, t]` or `[1, t]`; each row sums to 1.

        Args:
            maps: its own attention weights, `[n, s, t]` each.
            count: number of tokens, `t`.
        """


@runtime_checkable
class PoolsMap(Protocol):
    """Makes one vector of a map `[n, h, w, c]`, of all places alike."""

    pools_map: bool


@runtime_checkable
class CutsPatches(Protocol):
    """Makes a map of square patches of images."""

    patch: int  # edge in pixels


@runtime_checkable
class LearnsTokens(Protocol):
    """Puts learned tokens before those of the patches."""

    learned_tokens: int  # number of them
