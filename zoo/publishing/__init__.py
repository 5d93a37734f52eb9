"""Publishing models: what is sent is checked first, and appears whole or not at all.

`flow` tells the story. `staging` gathers the files, `gate` checks them, `target` and `hub` are the
places that they go to, `writer` is the hub's client.
"""

from typing import TYPE_CHECKING

from zoo._lazy import attach

if TYPE_CHECKING:
    from zoo.publishing.flow import Published as Published
    from zoo.publishing.flow import publish as publish
    from zoo.publishing.report import GateReport as GateReport

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "GateReport": "zoo.publishing.report",
        "Published": "zoo.publishing.flow",
        "publish": "zoo.publishing.flow",
    },
)
