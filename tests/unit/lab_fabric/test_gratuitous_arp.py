"""The frame a router sends when an address is its own from now on."""

from __future__ import annotations

from lab.fabric.namespaces import gratuitous_arp


def test_the_frame_is_an_arp_request_of_the_address_for_itself_to_everyone() -> None:
    """Field by field as RFC 826 lays it out."""
    assert gratuitous_arp(bytes.fromhex("020000000001"), "198.18.1.16") == bytes.fromhex(
        "ffffffffffff 020000000001 0806"  # to everyone, from the device, ARP
        "0001 0800 06 04 0001"  # Ethernet, IPv4, address lengths, request
        "020000000001 c6120110"  # sender: the device, the address
        "000000000000 c6120110"  # target: unknown, the same address
    )
