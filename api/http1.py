"""HTTP/1.1: Hypercorn's, which takes HTTP/2's preface for a request, and waits for its end."""

import h11
from hypercorn.events import Updated
from hypercorn.protocol.h11 import H2ProtocolAssumedError, H11Protocol


class Http1(H11Protocol):
    """One request after the other. A client that knows beforehand that this is HTTP/2 goes on in that."""

    async def _check_protocol(self, event: h11.Request) -> None:
        try:
            await super()._check_protocol(event)
        except H2ProtocolAssumedError:
            await self.send(Updated(idle=True))  # no request has come yet
            raise
