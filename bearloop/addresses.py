"""Which addresses of the network a program may fetch from on a user's behalf, decided purely."""

from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final

IpAddress = IPv4Address | IPv6Address

# Written out from the IANA special-purpose registries: `is_global` of Python 3.11 is True for
# NAT64, 6to4, multicast, 192.0.0.8 and 192.88.99.1, and each minor version answers differently.
NOT_PUBLIC_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, the clouds' metadata among them
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
# Only global unicast is public at all, so loopback, ULA, link-local, multicast, IPv4-mapped,
# NAT64 (64:ff9b::/96) and whatever IANA opens next are denied without being named.
GLOBAL_UNICAST_6: Final = IPv6Network("2000::/3")
NOT_PUBLIC_6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # IETF protocols: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 carries an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


def is_public(address: IpAddress) -> bool:
    """Tell whether an address lies in the open internet, and on nothing that tunnels elsewhere."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in NOT_PUBLIC_4)
    if address not in GLOBAL_UNICAST_6:
        return False
    return not any(address in network for network in NOT_PUBLIC_6)


def literal_address(host: str) -> IpAddress | None:
    """Return the address that a host literally is, or None for a name.

    Raises ValueError for the numeric spellings that only `inet_aton` understands (decimal,
    octal, hexadecimal, short): they exist to slip past guards.
    """
    try:
        return ip_address(host)
    except (AddressValueError, ValueError):
        pass
    last = host.rstrip(".").rpartition(".")[2].lower()
    # The rule of the WHATWG URL standard: a host whose last label is a number is an address.
    if ":" in host or last.isdigit() or _is_hexadecimal(last):
        raise ValueError(f"host {host!r} is no plain IP address")
    return None


def _is_hexadecimal(label: str) -> bool:
    return label.startswith("0x") and all(digit in "0123456789abcdef" for digit in label[2:])
