"""Which addresses may be told: public ones, and those of networks that the operator allows.

Whoever adds a webhook makes this machine ask an address; it must not become a way into the network that it stands in (SSRF).
"""

import ipaddress
import os
from collections.abc import Sequence
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class BadUrl(ValueError):
    """Not an address that can be told; the text says what would be right."""


def allowed_networks() -> tuple[Network, ...]:
    """Networks that are not public and may be told all the same, from RETORT_WEBHOOK_NETWORKS ("10.1.0.0/16,127.0.0.0/8")."""
    text = os.environ.get("RETORT_WEBHOOK_NETWORKS", "")
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def may_be_told(address: str, networks: Sequence[Network]) -> bool:
    """Whether an IP address is public or in one of the networks; an IPv4 address within an IPv6 one counts as what it is."""
    found = _unwrapped(ipaddress.ip_address(address.partition("%")[0]))
    if any(found.version == network.version and found in network for network in networks):
        return True
    return found.is_global and not found.is_multicast


def check_url(url: str, networks: Sequence[Network]) -> str:
    """The URL. Raises BadUrl. A name is looked up when it is told, each time."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadUrl(f"not a URL ({error})") from None
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable() or " " in url or port == 0:
        raise BadUrl("an address of the form https://receiver.example/path")
    if parts.username is not None or parts.password is not None:
        raise BadUrl("an address without user and password; the signature says who speaks")
    if parts.fragment:
        raise BadUrl("an address without a fragment (#...)")
    try:
        literal = not may_be_told(host, networks)
    except ValueError:  # a name
        literal = False
    if literal:
        raise BadUrl(f"{host} is not a public address; networks are allowed by RETORT_WEBHOOK_NETWORKS")
    return url


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
