"""The exceptions of mlxnode.

::

    NodeError
    ├── ConfigError        the configuration is wrong; the command exits with 2
    ├── ModelError         a model cannot be fetched, read or served; exits with 1
    └── AddressError       the address cannot be listened on; exits with 1
"""


class NodeError(Exception):
    """An error whose message is meant for the person who started the node."""

    exit_code = 1


class ConfigError(NodeError):
    """A wrong configuration: the message names file, key, value and what was expected."""

    exit_code = 2


class ModelError(NodeError):
    """A model that cannot be fetched, read or served."""


class AddressError(NodeError):
    """An address that cannot be listened on."""
