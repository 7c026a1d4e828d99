"""X-Request-Tokens-Per-Second: how fast a client wants its tokens at most."""

import math
from typing import Final

from api.errors import ApiError, bad_request
from llamabox.services import Services

REQUEST_HEADER: Final = "X-Request-Tokens-Per-Second"
RESPONSE_HEADER: Final = "X-Response-Tokens-Per-Second"


def rate_cap(services: Services) -> float:
    """Tokens per second that a client may ask for; 0: the header means nothing."""
    cap = services.settings.server.tokens_per_second
    if cap >= 0:
        return cap
    measured = services.text.measured_rate if services.text is not None else None
    return measured or 0.0


def requested_rate(header: str | None, cap: float) -> float:
    """The rate to keep to, 0 for none. Raises ApiError: 400 not a number, 410 more than the cap."""
    if header is None or cap == 0:
        return 0.0
    try:
        rate = float(header)
    except ValueError:
        rate = math.nan
    if math.isnan(rate):
        raise bad_request(f"{REQUEST_HEADER} is not a number", REQUEST_HEADER)
    if rate > cap:
        raise ApiError(410, f"{REQUEST_HEADER}: at most {cap:g} tokens per second are served", REQUEST_HEADER)
    return max(rate, 0.0)
