"""What a client accepts (RFC 9110, section 12.5): media types and content codings."""

from collections.abc import Sequence


def preferred_of(accept: Sequence[str], offered: Sequence[str]) -> str:
    """The media type of ``offered`` that the Accept headers prefer; the first in doubt.

    The most specific name of a type has its weight. A client that accepts none gets the first
    one: an answer is better than a 406.
    """
    weights = weights_of(accept)
    if not weights:
        return offered[0]

    def weight(kind: str) -> float:
        names = kind, kind.split("/")[0] + "/*", "*/*"
        return next((weights[name] for name in names if name in weights), 0.0)

    return max(offered, key=weight)  # the first of equals


def takes(accept_encoding: Sequence[str], coding: str) -> bool:
    """True if the client has asked for ``coding``, or for any."""
    weights = weights_of(accept_encoding)
    return weights.get(coding, weights.get("*", 0.0)) > 0


def weights_of(headers: Sequence[str]) -> dict[str, float]:
    """The largest weight of each name; its other parameters are left out."""
    weights: dict[str, float] = {}
    for item in ",".join(headers).split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name:
            weights[name] = max(weights.get(name, 0.0), _weight(parameters))
    return weights


def _weight(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
