"""Which tenant a request is about, and who asks.

Every subject that a request touches is built from its tenant. An organisation, or a merchant, is
another word for the same thing.
"""

from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request

from tailrace_api.auth.principal import Principal, principal_of
from tailrace_api.web.problems import RefusedError
from tailrace_shared.ids import check_id
from tailrace_shared.settings import ApiSettings

_HEADER: Final = "X-Organization-ID"
_PARAMETERS: Final = ("organization_id", "merchantId")
_WAYS: Final = f"the header {_HEADER}, or the parameter {' or '.join(_PARAMETERS)}"


def tenant_of(request: Request, settings: ApiSettings) -> str:
    """Return the tenant that a request names, or the only one that there is for who asks.

    Raises:
        InvalidIdError: what it names is not an id.
        RefusedError: it names several, or none of several, or one that the token does not hold.
    """
    return named_tenant(request.headers, request.query_params, principal_of(request), settings)


def named_tenant(
    headers: Headers, query: QueryParams, principal: Principal, settings: ApiSettings
) -> str:
    """Return the tenant that headers and parameters name; see ``tenant_of``."""
    tenant, held = checked_tenant(headers, query, principal), principal.organizations
    if tenant is not None:
        return tenant
    if held is None:
        return settings.default_tenant
    if len(held) > 1:
        raise RefusedError(400, f"the token holds several organizations; name one by {_WAYS}")
    (tenant,) = held
    return tenant


def checked_tenant(headers: Headers, query: QueryParams, principal: Principal) -> str | None:
    """Return the tenant that headers and parameters name; None if they name none.

    Raises:
        InvalidIdError: what they name is not an id.
        RefusedError: they name several, or one that the principal does not hold, or it holds none.
    """
    names = {*headers.getlist(_HEADER)}
    for parameter in _PARAMETERS:
        names.update(query.getlist(parameter))
    names.discard("")
    if len(names) > 1:
        raise RefusedError(400, f"the request names several organizations; name one, by {_WAYS}")
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
    """Return who sends a request, as the log is to name them; empty where nobody is known."""
    return principal_of(request).subject
