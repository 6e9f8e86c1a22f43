"""The figures of the node as one key may see them."""

from dataclasses import dataclass

from msgspec.structs import astuple

from mlxnode.config.keys import ApiKey
from mlxnode.figures import ModelFigures, Moment, NodeFigures, RequestFigures, RunnerFigures
from mlxnode.server.formats.figures import (
    Figures,
    History,
    Latency,
    Limits,
    LiveModel,
    RequestList,
)
from mlxnode.server.http.auth import Keyring
from mlxnode.server.http.figures_feed import Snapshot
from mlxnode.server.registry.registry import Registry


@dataclass(frozen=True)
class Viewer:
    """Who asks: ``sees_all`` of an administrator, and of everybody where nobody needs a key."""

    key: ApiKey
    registry: Registry  # the models of the key
    sees_all: bool

    @classmethod
    def of(cls, key: ApiKey, keyring: Keyring, registry: Registry) -> "Viewer":
        """Whoever has sent ``key``; ``registry`` has all models."""
        sees_all = key.is_admin or keyring.is_open
        return cls(key, registry.restricted_to(key.models), sees_all)

    def may_see(self, request: RequestFigures) -> bool:
        """True if the viewer may see the request, and cancel it."""
        return self.sees_all or request.key == self.key.id

    def requests(self, figures: NodeFigures) -> RequestList:
        """The requests in flight."""
        seen = [request for request in figures.requests if self.may_see(request)]
        return RequestList(seen, figures.num_requests if self.sees_all else len(seen))

    def figures(self, snapshot: Snapshot, *, with_history: bool) -> Figures:
        """All figures that the viewer may see."""
        node = snapshot.figures
        requests, traffic = self.requests(node), node.traffic
        keys = traffic.keys if traffic else []
        return Figures(
            time=snapshot.time,
            sees_all=self.sees_all,
            key=self.key.id,
            version=node.version,
            uptime=node.uptime,
            is_draining=node.is_draining,
            now=node.now,
            latency=_latency_of(node),
            limits=_limits_of(node),
            models=self._models(node),
            keys=[row for row in keys if self.sees_all or row.id == self.key.id],
            num_requests=requests.num_requests,
            requests=requests.data,
            processes=node.processes if self.sees_all else [],
            ranks=node.ranks if self.sees_all else [],
            history=_history_of(node.history) if with_history else None,
        )

    def _models(self, node: NodeFigures) -> list[LiveModel]:
        told = {model.id: model for model in node.engine.models} if node.engine else {}
        rates = node.traffic.rates.models if node.traffic else {}
        return [
            self._model(id, told.get(id), node.fits.get(id), rates.get(id, 0.0))
            for id in self.registry.types
        ]

    def _model(
        self, id: str, told: ModelFigures | None, fit: str | None, rate: float
    ) -> LiveModel:
        status, reason = self.registry.status_of(id)
        work = told.work if told else RunnerFigures()
        return LiveModel(
            id=id,
            state=status,
            is_pinned=self.registry.catalog.is_pinned(id),
            idle_seconds=told and told.idle_seconds,
            weight_bytes=told.weight_bytes if told else 0,
            fit=fit,
            reason=reason,
            running=work.num_running,
            waiting=work.num_waiting,
            background=work.num_background,
            generated_tokens=rate,
            prefix_bytes=work.prefix_bytes,
            prefix_entries=work.prefix_entries,
        )


def _latency_of(node: NodeFigures) -> Latency:
    if (traffic := node.traffic) is None:
        return Latency()
    return Latency(
        window=traffic.seconds,
        first_token_median=traffic.first_token_median,
        first_token_p95=traffic.first_token_p95,
        inter_token_median=traffic.inter_token_median,
        inter_token_p95=traffic.inter_token_p95,
    )


def _limits_of(node: NodeFigures) -> Limits:
    if node.engine is None:
        return Limits()
    memory = node.engine.memory
    return Limits(
        memory=memory.limit,
        kv_total=memory.kv_total,
        buffer_cache=memory.buffer_cache_limit,
        prefix_entries=sum(model.work.prefix_entries for model in node.engine.distinct),
        pressure=memory.pressure,
    )


def _history_of(moments: list[Moment]) -> History:
    rows = map(astuple, moments)
    columns = zip(*rows, strict=True)
    names = Moment.__struct_fields__
    return History(series={name: list(row) for name, row in zip(names, columns, strict=False)})
