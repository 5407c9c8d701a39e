"""Hosts that lead to forbidden addresses, in every notation that resolvers and libraries accept."""

from __future__ import annotations

from ipaddress import IPv4Address


def notations(address: str) -> list[str]:
    """Return ways to write an IPv4 address, as the host of a URL."""
    number = int(IPv4Address(address))
    parts = [int(part) for part in address.split(".")]
    high, low = number >> 16, number & 0xFFFF
    return [
        address,
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(hex(part) for part in parts),
        ".".join(f"0{part:o}" for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{low}",
        f"[::ffff:{address}]",
        f"[::ffff:{high:x}:{low:x}]",
        f"[0:0:0:0:0:ffff:{high:x}:{low:x}]",
        f"[64:ff9b::{high:x}:{low:x}]",
        f"[64:ff9b::{address}]",
        f"[2002:{high:x}:{low:x}::1]",
        f"[::{high:x}:{low:x}]",
    ]


METADATA = [
    *notations("169.254.169.254"),
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
]
INSIDE = [
    *notations("127.0.0.1"),
    *notations("10.0.0.1"),
    *notations("192.168.1.1"),
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.0.0.1.",
    "127.1",
    "127.255.255.254",
    "0",
    "0.0.0.0",
    "172.16.0.1",
    "172.31.255.255",
    "100.64.0.1",
    "169.254.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fc00::1]",
    "[fd12:3456:789a::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[64:ff9b:1::7f00:1]",
    "[2001:0:7f00:1::]",
    "[2606:4700::5efe:127.0.0.1]",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "user@127.0.0.1",
    "example.com@127.0.0.1",
    "example.com%2F@127.0.0.1",
    "127.0.0.1%2F.example.com",
    "127.0.0.1%00.example.com",
    "example.com\\@127.0.0.1",
    "127.0.0.1#@example.com",
    "127.0.0.1?@example.com",
]
