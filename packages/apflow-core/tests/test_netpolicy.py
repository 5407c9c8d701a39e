from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apflow.core.errors import AddressRefusedError, SettingsError
from apflow.core.net.policy import NetPolicy, read_policy

OPEN, PUBLIC = NetPolicy(), NetPolicy(is_public=True)

METADATA = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "fd20:ce::254"]
# What all of these come down to is a private, loopback or otherwise special address.
SPECIAL = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.1.1", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1",
    "3fff::1", "100::1", "5f00::1", "4000::1", "64:ff9b:1::a00:1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "2002:7f00:1::", "2002:a00:1::1", "2001:0:a00:1::", "2a00::5efe:10.0.0.1", "2a00::200:5efe:192.168.0.1",
]  # fmt: skip
PUBLIC_ADDRESSES = ["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8",
                    "64:ff9b::808:808", "2002:808:808::1"]  # fmt: skip


@pytest.mark.parametrize("address", METADATA)
@pytest.mark.parametrize("policy", [OPEN, PUBLIC, NetPolicy(is_public=True, hosts=frozenset({"h"}))])
def test_metadata_is_refused_under_every_policy(policy: NetPolicy, address: str):
    with pytest.raises(AddressRefusedError, match="metadata"):
        policy.check("h", address)


@pytest.mark.parametrize("address", ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"])
def test_metadata_is_refused_in_other_notations(address: str):
    with pytest.raises(AddressRefusedError, match="metadata"):
        OPEN.check("h", address)


@pytest.mark.parametrize("address", SPECIAL)
def test_what_is_not_on_the_public_internet_is_refused_where_only_that_is_permitted(address: str):
    with pytest.raises(AddressRefusedError) as caught:
        PUBLIC.check("inside.example.com", address)
    assert "APFLOW_NET_ALLOW" in str(caught.value)
    assert "inside.example.com" in str(caught.value)
    assert OPEN.fault_of("h", address) is None


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_what_is_on_the_public_internet_is_permitted(address: str):
    PUBLIC.check("h", address)


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_alike_in_every_notation(address: object):
    plain = ip_address(str(address))
    fault = PUBLIC.fault_of("h", str(plain))
    sixtofour = f"2002:{int(plain) >> 16:x}:{int(plain) & 65535:x}::"  # RFC 3056
    for written in (f"::ffff:{plain}", f"64:ff9b::{plain}", sixtofour):
        assert (PUBLIC.fault_of("h", written) is None) == (fault is None)


def test_networks_are_permitted_by_address_and_metadata_only_so():
    policy = read_policy("public", ("10.0.0.0/8", "169.254.169.254", "::1"))
    for address in ("10.9.9.9", "::ffff:10.9.9.9", "169.254.169.254", "::1"):
        policy.check("h", address)
    with pytest.raises(AddressRefusedError):
        policy.check("h", "192.168.0.1")


def test_hosts_are_permitted_by_name_and_those_below_by_a_star():
    policy = read_policy("public", ("db.internal", "*.corp.example"))
    for host in ("db.internal", "DB.Internal.", "a.corp.example", "a.b.corp.example"):
        policy.check(host, "10.0.0.1")
    for host in ("x.db.internal", "corp.example", "acorp.example"):
        with pytest.raises(AddressRefusedError):
            policy.check(host, "10.0.0.1")


@pytest.mark.parametrize(("policy", "allow"), [("closed", ()), ("open", ("10.0.0.1/8",)), ("open", ("a b",))])
def test_settings_that_say_nothing_sensible_are_refused(policy: str, allow: tuple[str, ...]):
    with pytest.raises(SettingsError, match="APFLOW_NET"):
        read_policy(policy, allow)


def test_an_invalid_address_is_rejected():
    with pytest.raises(AddressRefusedError, match="no IP address"):
        OPEN.check("h", "nonsense")
