"""Which addresses an offer may be fetched from: public ones. Pure."""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")
_RELAYS = ipaddress.IPv4Network("192.88.99.0/24")  # 6to4; routed no more


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet.

    Not private, loopback, link-local (also those of cloud metadata services), shared (100.64.0.0/10), multicast,
    reserved, unspecified or of documentation; nor an IPv6 address that stands for such an IPv4 one (mapped,
    compatible, 6to4, Teredo, NAT64). False for what is no address.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _SITE_LOCAL or "%" in address:
            return False
        inner = _inner(ip)
        if inner:
            return all(is_public(str(one)) for one in inner)
    elif ip in _RELAYS:
        return False
    # `is_global` follows IANA's registries; multicast is global there, and reserved may be in older Pythons.
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_link_local or ip.is_unspecified)


def _inner(ip: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that an IPv6 one leads to."""
    if ip.ipv4_mapped:
        return [ip.ipv4_mapped]
    if ip.sixtofour:
        return [ip.sixtofour]
    if ip.teredo:
        return list(ip.teredo)
    if ip in _NAT64 or int(ip) >> 32 == 0:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)]
    return []
