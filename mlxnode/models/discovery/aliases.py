"""The other names of models: those that the user gives, and short ones of found models."""

from collections import defaultdict
from collections.abc import Collection, Mapping

from mlxnode.errors import ConfigError
from mlxnode.models.discovery.candidates import is_id

_KEY = "server.discovery.aliases"


def short_names(names: Mapping[str, Collection[str]], ids: Collection[str]) -> dict[str, str]:
    """Each name of ``names`` in lower case -> id, if it is no id and means one model alone.

    ``names`` has the names of each found model by its id; ``ids`` are those of all models.
    """
    meant: dict[str, set[str]] = defaultdict(set)
    for id, own in names.items():
        for name in own:
            meant[name.lower()].add(id)
    return {
        alias: id
        for alias, (id, *others) in sorted((alias, sorted(ids)) for alias, ids in meant.items())
        if not others and alias not in ids
    }


def add_aliases(
    short: Mapping[str, str],
    wanted: Mapping[str, str],
    configured: Collection[str],
    found: Collection[str],
    *,
    can_be_found: bool,
) -> tuple[dict[str, str], list[str]]:
    """The aliases with those of the user, which come first, and warnings of unusable ones.

    An alias may name a short name. ``can_be_found``: a model that is not there now may be there
    later, so its alias is no error.

    Raises:
        ConfigError: an alias is the id of a configured model, or can never name a model.
    """
    aliases, warnings = dict(short), []
    for alias, target in wanted.items():
        id = target if target in configured or target in found else short.get(target)
        if not is_id(alias):
            raise ConfigError(f"{_KEY}.{alias!r}: expected a name of printable characters")
        if alias in configured:
            raise ConfigError(f"{_KEY}.{alias}: there is a model of this id")
        if alias in found:
            warnings.append(f"{_KEY}.{alias}: not used, since a found model has this id")
        elif id is not None:
            aliases[alias] = id
        elif can_be_found:
            aliases.pop(alias, None)
            warnings.append(f'{_KEY}.{alias} = "{target}": there is no such model now')
        else:
            known = ", ".join(configured) or "none"
            raise ConfigError(
                f'{_KEY}.{alias} = "{target}": there is no such model; there are {known}'
            )
    return aliases, warnings
