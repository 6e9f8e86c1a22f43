"""What transformers gets in place of a compiled chat template: it is rendered elsewhere."""

import functools
import importlib
from typing import Any

from mlxnode.server.rendering.helper import Helper
from mlxnode.server.rendering.limits import Limits, RenderLimit

_MODULE = "transformers.utils.chat_template_utils"
_COMPILE = "_compile_jinja_template"


@functools.cache
def install() -> None:
    """Let all chat templates of this process be rendered by helper processes."""
    install_with(Renderers(Limits()))


def install_with(renderers: "Renderers") -> None:
    """The same with other ``renderers``.

    Raises:
        ImportError: transformers has no such function, so that templates would run here.
    """
    module = importlib.import_module(_MODULE)
    if not hasattr(module, _COMPILE):
        raise ImportError(f"{_MODULE} has no {_COMPILE}", name=_MODULE)
    setattr(module, _COMPILE, functools.partial(RemoteTemplate, renderers))


class Renderers:
    """The helpers of this process. Safe to call from several threads.

    All templates share one helper, but for those that have exceeded a bound: each of these gets
    a helper of its own, so that no other model waits for it again.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._shared = Helper(limits)
        self._own: dict[str, Helper] = {}

    def render(self, source: str, context: dict[str, Any]) -> str:
        """The text of the template ``source``. Raises as ``Helper.render``."""
        while True:
            helper = self._helper_of(source)
            with helper.lock:
                if helper is not self._helper_of(source):
                    continue  # while this waited, the template has got its own
                try:
                    return helper.render(source, context)
                except RenderLimit:
                    self._own.setdefault(source, Helper(self._limits))
                    raise

    def _helper_of(self, source: str) -> Helper:
        return self._own.get(source, self._shared)


class RemoteTemplate:
    """A template, as far as transformers uses it."""

    def __init__(self, renderers: Renderers, source: str):
        self._renderers = renderers
        self._source = source

    def render(self, **context: Any) -> str:
        """The text. Raises as ``Helper.render``."""
        return self._renderers.render(self._source, context)
