"""Which clients count as one."""

import pytest

from mlxnode.server.http.addresses import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        (("127.0.0.1", 5), "127.0.0.1"),
        (("203.0.113.7", 5), "203.0.113.7"),
        (("::ffff:203.0.113.7", 5, 0, 0), "203.0.113.7"),
        (("::1", 5, 0, 0), "::1"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::", 6, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%en0", 5, 0, 4), "fe80::/64"),
        (None, "unknown"),
    ],
)
def test_a_machine_is_one_address_whatever_its_ports_and_suffixes_are(address, network):
    assert network_of(address) == network
