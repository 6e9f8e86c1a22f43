"""The errors that a client gets, each with its HTTP status and OpenAI's fields.

::

    ApiError
    ├── InvalidRequest    400  the request cannot be served as it is
    ├── Unauthorized      401  no key, or a wrong one
    ├── Forbidden         403  this key is not for this URL, or the Host is not this node
    ├── NotFound          404  no such model or URL
    ├── MethodRefused     405  the URL does not have this method
    ├── TooLate           408  the request did not arrive in time
    ├── TooLarge          413  the body is larger than the configuration allows
    ├── UriTooLong        414  the URL alone is larger than a head may be
    ├── UnknownCoding     415  the body has a Content-Encoding that is not supported
    ├── RateLimited       429  the key has used up its requests or tokens
    ├── HeadersTooLarge   431  the URL and the headers are larger than a head may be
    ├── Cancelled         499  somebody has cancelled the request, not its client by leaving
    ├── EngineFailed      500  the engine failed on this request
    │   └── RequestRefused 500 engines died of this request: it is not tried again
    ├── NotSupported      501  a transfer coding that is unknown, or a request to a proxy
    ├── Unavailable       503  not now: draining, engine loading or gone, queue full, too many
    │   │                          connections, no memory or file descriptor left
    │   └── ModelFailed   503  this model could not be loaded; the node serves the others
    └── VersionNotSupported
                          505  neither HTTP/1.1 nor HTTP/1.0
"""

import errno
import math

from msgspec import Struct

_MAX_LENGTH = 1000  # characters of a message or param, which quote the client's request
SHUTTING_DOWN = "The server is shutting down"
RETRY_AFTER = 2  # seconds; a new engine has usually loaded by then
# Of an OSError: this machine lacks something at the moment.
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN}
_OLLAMA = (
    ". Ollama's own API is not served: set the client to an OpenAI-compatible provider, and "
    "its base URL to this server's address with /v1"
)
RETRY_FAILED = 60  # seconds; somebody has to remove the cause first


class ErrorBody(Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(Struct):
    error: ErrorBody


class ApiError(Exception):
    """An error with a status, answered as ``{"error": {message, type, param, code}}``."""

    status = 500
    type = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.message = _shorten(message)
        self.param = param and _shorten(param)
        self.code = code
        self.headers = headers or {}

    def to_envelope(self) -> ErrorEnvelope:
        return ErrorEnvelope(ErrorBody(self.message, self.type, self.param, self.code))


class InvalidRequest(ApiError):
    status = 400
    type = "invalid_request_error"


class Unauthorized(ApiError):
    status = 401
    type = "invalid_request_error"

    def __init__(self, message: str, *, code: str | None = None):
        super().__init__(message, code=code, headers={"www-authenticate": "Bearer"})


class Forbidden(ApiError):
    status = 403
    type = "invalid_request_error"


class NotFound(ApiError):
    status = 404
    type = "invalid_request_error"


class MethodRefused(ApiError):
    status = 405
    type = "invalid_request_error"


class TooLate(ApiError):
    status = 408
    type = "invalid_request_error"


class TooLarge(ApiError):
    status = 413
    type = "invalid_request_error"

    @classmethod
    def of_body(cls, limit: int) -> "TooLarge":
        """The body has more than ``limit`` bytes."""
        message = f"The request is too large: at most {limit} bytes of body are accepted"
        return cls(message, code="request_too_large")


class UriTooLong(ApiError):
    status = 414
    type = "invalid_request_error"


class UnknownCoding(ApiError):
    status = 415
    type = "invalid_request_error"


class HeadersTooLarge(ApiError):
    status = 431
    type = "invalid_request_error"


class NotSupported(ApiError):
    status = 501
    type = "invalid_request_error"


class VersionNotSupported(ApiError):
    status = 505
    type = "invalid_request_error"


class RateLimited(ApiError):
    """``type`` is the limit that is reached: requests or tokens."""

    status = 429

    def __init__(self, message: str, *, kind: str, retry_after: float):
        headers = {
            "retry-after": str(max(1, math.ceil(retry_after))),
            "retry-after-ms": str(max(1, math.ceil(retry_after * 1000))),
        }
        super().__init__(message, code="rate_limit_exceeded", headers=headers)
        self.type = kind


class Cancelled(ApiError):
    """The status is nginx's for a request that its client ends; the SDKs retry a 409."""

    status = 499
    type = "invalid_request_error"
    code = "request_cancelled"

    def __init__(self):
        super().__init__("The request was cancelled", code=self.code)


class EngineFailed(ApiError):
    pass


class RequestRefused(EngineFailed):
    """The SDKs do not retry: the same request is refused for an hour."""

    def __init__(self, message: str):
        headers = {"x-should-retry": "false"}
        super().__init__(message, code="request_refused", headers=headers)


class Unavailable(ApiError):
    status = 503
    type = "service_unavailable_error"

    def __init__(self, message: str):
        headers = {"retry-after": str(RETRY_AFTER)}
        super().__init__(message, code="server_is_overloaded", headers=headers)


class ModelFailed(Unavailable):
    """The SDKs do not retry: the same request would fail again until somebody has acted."""

    def __init__(self, model_id: str, reason: str):
        super().__init__(f"The model '{model_id}' cannot be served: {reason}")
        self.reason = reason
        self.param, self.code = "model", "model_failed"
        self.headers = {"retry-after": str(RETRY_FAILED), "x-should-retry": "false"}


def _is_ollama(path: str) -> bool:
    return path.lstrip("/").startswith("api/")


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"


def is_shortage(error: BaseException) -> bool:
    """True if this machine is short of memory or of descriptors: no client is to blame."""
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno in _SHORTAGES
    )


def from_exception(error: BaseException, path: str, method: str, max_bytes: int) -> ApiError:
    """The ApiError for any exception of a handler or of Sanic."""
    # Imported here: the processes that read large bodies do without sanic.
    from sanic import exceptions

    if isinstance(error, ApiError):
        return error
    if isinstance(error, exceptions.MethodNotAllowed):
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        message = f"{method} is not allowed on {path}, only {allowed}"
        return MethodRefused(message, code="method_not_allowed", headers={"allow": allowed})
    if isinstance(error, exceptions.NotFound):
        message = f"Unknown request URL: {method} {path}{_OLLAMA if _is_ollama(path) else ''}"
        return NotFound(message, code="unknown_url")
    if isinstance(error, exceptions.PayloadTooLarge):
        return TooLarge.of_body(max_bytes)
    if isinstance(error, exceptions.RequestTimeout):
        return TooLate(str(error), code="request_timeout")
    if isinstance(error, exceptions.ServiceUnavailable):
        return Unavailable("The request took too long to answer")
    if is_shortage(error):
        return Unavailable("The server is short of memory or of open files; try again soon")
    if isinstance(error, exceptions.SanicException) and 400 <= error.status_code < 500:
        refused = InvalidRequest(str(error) or "Bad request")
        refused.status = error.status_code
        return refused
    return ApiError("The server had an error while processing the request")
