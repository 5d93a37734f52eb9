"""The project's own hub: repos in a folder, served over the Hugging Face hub protocol.

`storage` keeps repos, `app` answers the protocol from a storage, `faults` spoils answers on
purpose, `server` runs it all on a port. The last three need the extra `tfzoo[server]`.
"""

from zoo._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Fault": "zoo.hub.faults",
        "Faults": "zoo.hub.faults",
        "HubServer": "zoo.hub.server",
        "Storage": "zoo.hub.storage",
        "User": "zoo.hub.access",
        "create_app": "zoo.hub.app",
        "serve": "zoo.hub.server",
    },
)
