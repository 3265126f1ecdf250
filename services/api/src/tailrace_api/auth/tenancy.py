"""The tenant of a request.

Every NATS subject that a request touches is built from its tenant. *Organization* and *merchant*
are other words for tenant.
"""

from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection, Request
from starlette.types import Scope

from tailrace_api.auth.principal import Principal, principal_of
from tailrace_api.web.problems import RefusedError
from tailrace_api.web.query import OPTIONAL_WHITESPACE
from tailrace_shared.errors import InvalidIdError
from tailrace_shared.ids import check_id
from tailrace_shared.settings import ApiSettings

_HEADER: Final = "X-Organization-ID"
_PARAMETERS: Final = ("organization_id", "merchantId")
_NAMED_BY: Final = f"the header {_HEADER}, or the parameter {' or '.join(_PARAMETERS)}"


def tenant_of(request: Request, settings: ApiSettings) -> str:
    """Return the tenant that a request names, or the only tenant of its token.

    Raises:
        InvalidIdError: The name is not an id.
        RefusedError: The request names several tenants, or one that the token does not hold, or
            none while the token holds several.
    """
    return named_tenant(request.headers, request.query_params, principal_of(request), settings)


def named_tenant(
    headers: Headers, query: QueryParams, principal: Principal, settings: ApiSettings
) -> str:
    """Return the tenant of a request with these headers and parameters, like ``tenant_of``."""
    tenant, held = checked_tenant(headers, query, principal), principal.organizations
    if tenant is not None:
        return tenant
    if held is None:
        return settings.default_tenant
    if len(held) > 1:
        raise RefusedError(400, f"the token holds several organizations; name one by {_NAMED_BY}")
    (tenant,) = held
    return tenant


def tenant_or_empty(scope: Scope, settings: ApiSettings) -> str:
    """Return the tenant of a request, empty if its handler will refuse it."""
    request = HTTPConnection(scope)
    try:
        return named_tenant(request.headers, request.query_params, principal_of(request), settings)
    except (InvalidIdError, RefusedError):
        return ""


def checked_tenant(headers: Headers, query: QueryParams, principal: Principal) -> str | None:
    """Return the tenant that headers and parameters name; None if they name none.

    Raises:
        InvalidIdError: The name is not an id.
        RefusedError: Several tenants are named, or the principal does not hold the named one or
            holds none at all.
    """
    named = [*headers.getlist(_HEADER)]
    for parameter in _PARAMETERS:
        named += query.getlist(parameter)
    names = {trimmed for each in named if (trimmed := each.strip(OPTIONAL_WHITESPACE))}
    if len(names) > 1:
        raise RefusedError(400, f"the request names several organizations; name one by {_NAMED_BY}")
    held = principal.organizations
    if held is not None and not held:
        raise RefusedError(403, "the token holds no organization: it has neither org nor orgs")
    if not names:
        return None
    tenant = check_id(names.pop(), "organization")
    if held is not None and tenant not in held:
        raise RefusedError(403, f"the token does not hold the organization {tenant!r}")
    return tenant


def actor_of(request: Request) -> str:
    """Return the subject recorded in the log for a request; empty without authentication."""
    return principal_of(request).subject
