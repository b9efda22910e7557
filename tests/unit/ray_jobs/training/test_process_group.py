"""Gloo talks on the interface by which Ray knows the node."""

from ray_jobs.training.process_group import interface_of


def test_an_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.1") is None  # RFC 5737: nobody's
