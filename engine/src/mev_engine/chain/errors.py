"""What can go wrong between us and a node. Every text names the endpoint without its key."""

from __future__ import annotations


class LinkError(Exception):
    """The connection is lost, silent, or its answers make no sense: try again, or another endpoint."""


class RpcError(Exception):
    """The node answered a request with a JSON-RPC error."""

    def __init__(self, endpoint: str, method: str, code: int, message: str) -> None:
        super().__init__(f"{endpoint}: {method}: error {code}: {message}")
        self.code = code
        self.message = message

    @property
    def is_revert(self) -> bool:
        """The contract refused (EIP-1474 code 3, or -32000 with the word): the node itself is fine."""
        return self.code == 3 or "revert" in self.message.lower()

    @property
    def is_busy(self) -> bool:
        """The provider asks us to slow down: limit exceeded (-32005), or HTTP's 429 in its own way."""
        return self.code in (-32005, -32029, 429) or "rate limit" in self.message.lower()


class WrongChainError(Exception):
    """No endpoint is left that serves the chain which the settings name."""


class StateUnavailableError(Exception):
    """The node no longer (or not yet) has the state of the block that was asked for."""


class MissingMarketError(Exception):
    """The chain does not have what the settings describe (yet): no factory, no usable pools."""
