"""The OpenAPI document, as true as the routes: their errors, their bodies, and who may ask."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from tts_provider.keys.ring import KeyRing
from tts_provider.server.transport.allowance import COUNTED
from tts_provider.server.transport.auth import is_open_path

_WHEN = {
    400: "The request is not valid.",
    401: "No valid API key was sent.",
    403: "Pages of this origin may not call the server.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "Not yet, or not any more: it depends on its state.",
    413: "The body is too large.",
    415: "The body is of another media type.",
    422: "Nothing in the text can be spoken.",
    429: "A limit of the API key or of the server is reached.",
    500: "The engine failed.",
    503: "Loading, busy or stopping; `Retry-After` says when to come back.",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_SECURITY: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class Error(BaseModel):
    """What every error looks like."""

    error: ErrorDetail


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses` for these statuses."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"model": Error, "description": _WHEN[status]}
        if status == 503:
            responses[status]["headers"] = _RETRY_AFTER
    return responses


def json_body(model: type[BaseModel], *forms: str) -> dict[str, Any]:
    """A route's `openapi_extra` where it reads its body itself, as JSON or as forms of these media
    types."""
    content = {
        media_type: {"schema": copy.deepcopy(_body_schema(model))}
        for media_type in ("application/json", *forms)
    }
    return {"requestBody": {"required": True, "content": content}}


@functools.cache
def _body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """For every media type and route the same: 4 ms each time. Whoever changes it copies it."""
    return model.model_json_schema(ref_template="#/components/schemas/{model}")


def describe(app: FastAPI, keys: KeyRing) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` shall be; it says that a key is needed while one is."""
    documents: dict[bool, dict[str, Any]] = {}

    def document() -> dict[str, Any]:
        keyed = keys.is_needed
        if keyed not in documents:
            documents[keyed] = _document(app, keyed)
        return documents[keyed]

    return document


def _document(app: FastAPI, keyed: bool) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _add_schema(schemas, Error)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _lift_definitions(operation, schemas)
            responses = operation["responses"]
            if "HTTPValidationError" in str(responses.get("422")):
                del responses["422"]  # FastAPI's own; ours are 400
            _add_errors(responses, (403,))
            if keyed and not is_open_path(path, method.upper()):
                _add_errors(responses, (401,))
                if method.upper() in COUNTED:
                    _add_errors(responses, (429,))
                    responses["429"]["headers"] = _RETRY_AFTER
                operation["security"] = [{name: []} for name in _SECURITY]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    if keyed:
        components["securitySchemes"] = _SECURITY
    return document


def _add_errors(responses: dict[str, Any], statuses: Sequence[int]) -> None:
    for status in statuses:
        responses[str(status)] = {
            "description": _WHEN[status],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }


def _lift_definitions(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """What the models of `json_body` refer to belongs where they look for it."""
    content = operation.get("requestBody", {}).get("content", {})
    for media in content.values():
        schemas.update(media.get("schema", {}).pop("$defs", {}))


def _add_schema(schemas: dict[str, Any], model: type[BaseModel]) -> None:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
