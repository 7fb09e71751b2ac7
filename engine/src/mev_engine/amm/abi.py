"""Reading event logs: topics as lower-case 0x hex, data as bytes of 32-byte words."""

from __future__ import annotations

from eth_utils.crypto import keccak


def topic(signature: str) -> str:
    """topic0 of an event by its signature, `Name(type,…)`."""
    return "0x" + keccak(text=signature).hex()


def uint(data: bytes, word: int) -> int:
    """The unsigned integer in word number `word`; ValueError where the data ends before."""
    if len(data) < 32 * (word + 1):
        raise ValueError(f"the log has {len(data)} bytes of data: word {word} is missing")
    return int.from_bytes(data[32 * word : 32 * (word + 1)])


def signed(data: bytes, word: int) -> int:
    """The two's complement integer in word number `word`."""
    value = uint(data, word)
    return value - 2**256 if value >> 255 else value


def topic_signed(text: str) -> int:
    """An indexed signed integer."""
    return signed(bytes.fromhex(text[2:]), 0)
