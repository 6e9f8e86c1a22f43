"""What every agent needs beside its own settings: trust in a certificate, and no proxy."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from mlxnode.launch.agents import Agent, Plan, Target

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def complete(plan: Plan, agent: Agent, target: Target, environ: Mapping[str, str]) -> Plan:
    """``plan`` with the variables that depend on the node and on the user's environment."""
    more: dict[str, str] = {}
    if target.certificate is not None:
        name = "NODE_EXTRA_CA_CERTS" if agent.is_node else "SSL_CERT_FILE"
        more[name] = str(target.certificate.absolute())
    host = urlsplit(target.url).hostname or ""
    if any(environ.get(name) or environ.get(name.upper()) for name in _PROXIES):
        before = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
        hosts = [part for part in before.split(",") if part]
        value = ",".join(dict.fromkeys([*hosts, host]))
        more |= {"NO_PROXY": value, "no_proxy": value}
    return Plan(plan.arguments, plan.environment | more, plan.unset, plan.files)
