"""The request body of ``/v1/responses``."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from mlxnode.server.answer.settings import Settings
from mlxnode.server.formats.body import ANY, Body
from mlxnode.server.formats.chat.reasoning import Effort, Reasoning, ReasoningFields
from mlxnode.server.formats.chat.schema import Metadata
from mlxnode.server.formats.generation import GenerationBody
from mlxnode.server.formats.responses.items import Items, any_of
from mlxnode.server.formats.responses.tools import ToolChoice, Tools
from mlxnode.server.formats.rules import Rule, needs, none_of, one_of, only, required

