"""Which tenant a request is about, and who asks.

Every subject that a request touches is built from its tenant.
"""

from starlette.requests import Request

from tailrace_shared.ids import check_id
from tailrace_shared.settings import ApiSettings


def tenant_of(request: Request, settings: ApiSettings) -> str:
    """Return the tenant that a request names, or the default one.

    Raises:
        InvalidIdError: what it names is not an id.
    """
    tenant = (
        request.headers.get("x-organization-id")
        or request.query_params.get("organization_id")
        or settings.default_tenant
    )
    return check_id(tenant, "organization")


def actor_of(request: Request) -> str:
    """Return who sends a request, as the log is to name them; empty where nobody is known."""
    actor: str = getattr(request.state, "actor", "")
    return actor
