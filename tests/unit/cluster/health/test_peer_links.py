"""Links between real listeners on loopback addresses."""

import socket
import threading

import pytest

from cluster.health.peer_links import Address, Link, Listener, check_links, interface_to, rate, reach

TOKEN = b"0123456789abcdef"


def test_who_knows_the_token_is_answered_and_measured() -> None:
    with Listener("127.0.0.1", TOKEN) as listener:
        links = reach({"here": listener.address, "again": listener.address}, TOKEN, 5.0)
        assert all(link.seconds is not None and link.seconds < 5 for link in links.values())
        assert links["here"].interface == "lo (127.0.0.1)"
        assert rate(listener.address, TOKEN, 1 << 22, 5.0) > 1e6
        stranger = reach({"here": listener.address}, b"x" * 16, 5.0)["here"]
        assert stranger.seconds is None
        assert stranger.error
    assert not [each for each in threading.enumerate() if each.name == "doctor-listener"]
    assert reach({"gone": listener.address}, TOKEN, 5.0)["gone"].error == "Connection refused"


def test_one_that_takes_a_connection_and_says_nothing_costs_its_time_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Listener("127.0.0.1", TOKEN) as listener:
        peers = {"silent": Address("127.0.0.1", silent.getsockname()[1]), "good": listener.address}
        links = reach(peers, TOKEN, 0.3)
    assert links["silent"].error == "no answer within 0.3 s"
    assert links["good"].seconds is not None


def test_a_length_beyond_reason_is_not_read() -> None:
    with (
        Listener("127.0.0.1", TOKEN) as listener,
        socket.create_connection((listener.address.host, listener.address.port), timeout=10) as connection,
    ):
        connection.sendall(TOKEN + (1 << 62).to_bytes(8, "big"))
        assert connection.recv(1) == b""


def test_an_address_that_no_route_leads_to_names_no_interface() -> None:
    assert interface_to("127.0.0.9").startswith("lo (127.0.0.")


def links_of(speed: dict[tuple[str, str], float | None], names: str) -> dict[str, dict[str, Link]]:
    return {
        one: {
            other: Link("eth0 (10.0.0.1)", speed.get((one, other), 0.001), "timed out")
            for other in names
            if other != one
        }
        for one in names
    }


PLACES = {name: Address(f"10.0.0.{number}", 4000) for number, name in enumerate("abcd", 1)}


def test_a_node_that_nobody_reaches_is_the_one_at_fault() -> None:
    broken: dict[tuple[str, str], float | None] = {(one, "c"): None for one in "abd"}
    checks = dict(check_links(links_of(broken, "abcd"), PLACES, {}))
    assert {name for name, check in checks.items() if check.status == "error"} == {"c"}
    assert "no other node reaches it at 10.0.0.3:4000" in checks["c"].found
    assert "reaches 2 of 3" in checks["a"].found


def test_a_broken_link_names_both_ends_and_the_interface() -> None:
    checks = dict(check_links(links_of({("a", "b"): None}, "abcd"), PLACES, {}))
    assert {name for name, check in checks.items() if check.status == "error"} == {"a"}
    assert checks["a"].found == "does not reach b at 10.0.0.2:4000 from eth0 (10.0.0.1): timed out"
    of_two = dict(check_links(links_of({("a", "b"): None}, "ab"), PLACES, {}))
    assert {name for name, check in of_two.items() if check.status == "error"} == {"a"}


@pytest.mark.parametrize(("slow", "status"), [(200e6, "warning"), (400e6, "ok")])
def test_a_node_whose_best_link_is_far_below_the_usual_is_slow(slow: float, status: str) -> None:
    rates = {"a": [1e9, 2e8], "b": [1e9], "c": [slow, slow / 2], "d": [1.1e9]}
    checks = dict(check_links(links_of({}, "abcd"), PLACES, rates))
    assert {name: check.status for name, check in checks.items()} == {"a": "ok", "b": "ok", "c": status, "d": "ok"}
