"""The networks by name. Listing the names does not import MindSpore; creating a network does."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alexnet.model import networks
from alexnet.runtime.errors import InputError

if TYPE_CHECKING:
    from alexnet.model.network import Network


NO_SETTINGS = frozenset({"dropout_rate", "kernels", "seed", "weight_init"})
"""Arguments of a network that are not stored in its checkpoint."""


def names() -> list[str]:
    """Return the names of the networks, which are the modules of `alexnet/model/networks`, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(networks.__path__))


def network_class(name: str) -> "type[Network]":
    """Return the class of the network with this name. Raises InputError when there is none."""
    if name not in names():
        raise InputError(f"there is no network {name}, expected {' or '.join(names())}")
    chosen: type[Network] = importlib.import_module(f"{networks.__name__}.{name}").NETWORK
    return chosen


def accepted(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that the constructor of a network has: all of them if it takes `**kwargs`.

    Raises InputError when there is no network with this name.
    """
    parameters = inspect.signature(network_class(name)).parameters
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(arguments)
    return {key: value for key, value in arguments.items() if key in parameters}


def create(name: str, **arguments: Any) -> "Network":
    """Return a new network.

    Args:
        name: one of `names()`.
        arguments: the other parameters of the section `model` of params.yaml, `kernels`, and for a network that is to
            be trained `weight_init` and `seed`; see `alexnet.model.network.Network`. Those that the network's
            constructor does not have are ignored.

    Raises InputError when there is no such network, or when it refuses a value, as AlexNet does an image size that is
    too small; and TypeError when an argument that its constructor needs is missing, or when one that it has is not
    among its settings.
    """
    chosen = network_class(name)
    network = chosen(**accepted(name, arguments))
    # Without this check, a checkpoint could be read as a network with another value of the argument.
    for key in inspect.signature(chosen).parameters.keys() & arguments.keys() - NO_SETTINGS:
        if network.settings.get(key) != arguments[key]:
            raise TypeError(f"network {name}: its constructor must give {key} to Network.__init__ among the settings")
    return network
