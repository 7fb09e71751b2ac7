# Copyright (c) the MEV platform's authors. Apache-2.0 (see LICENSE)
"""Pings as bytes (RFC 792), so that a check needs no program on the host."""

from __future__ import annotations

import struct

IP_HEADER = 20
ICMP_HEADER = 8


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(ident: int, sequence: int, size: int) -> bytes:
    """Return a request that makes a packet of ``size`` bytes with its IP header."""
    payload = bytes(max(size - IP_HEADER - ICMP_HEADER, 0))
    sum_ = checksum(struct.pack("!BBHHH", 8, 0, 0, ident, sequence) + payload)
    return struct.pack("!BBHHH", 8, 0, sum_, ident, sequence) + payload


def echo_reply(packet: bytes, ident: int) -> int | None:
    """Return the sequence number of an answer to ``ident``; None for any other packet."""
    header = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < header + ICMP_HEADER:
        return None
    kind, code, _, own, sequence = struct.unpack("!BBHHH", packet[header : header + ICMP_HEADER])
    return sequence if (kind, code, own) == (0, 0, ident) else None
