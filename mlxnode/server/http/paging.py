"""The parameters of a list in Anthropic's API: which page of it is asked for."""

from typing import Annotated

from msgspec import Meta
from sanic import Request

from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.messages.models import DEFAULT_PAGE, MAX_PAGE, Page
from mlxnode.server.http.parameters import Parameter

MODEL_PARAMETERS = (
    Parameter(
        "limit",
        "query",
        f"The most models in an answer of Anthropic's shape; {DEFAULT_PAGE} if not set.",
        Annotated[int, Meta(ge=1, le=MAX_PAGE)],
    ),
    Parameter("after_id", "query", "The model before the first one of Anthropic's page."),
    Parameter("before_id", "query", "The model after the last one of Anthropic's page."),
)


def read_page(request: Request) -> Page:
    """The page that the URL of ``request`` asks for.

    Raises:
        InvalidRequest: the limit is no number from 1 to 1000.
    """
    arguments = request.get_args(keep_blank_values=True)
    given = arguments.get("limit")
    text = str(DEFAULT_PAGE) if given is None else given
    is_number = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_PAGE))
    if not is_number or not 1 <= int(text) <= MAX_PAGE:
        raise InvalidRequest(
            f"Invalid 'limit': expected an integer from 1 to {MAX_PAGE}, got {text!r}.",
            param="limit",
            code="invalid_value",
        )
    after_id, before_id = arguments.get("after_id"), arguments.get("before_id")
    return Page(int(text), after_id or None, before_id or None)
