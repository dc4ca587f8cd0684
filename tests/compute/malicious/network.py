"""Attempts to reach anything over a socket."""

from __future__ import annotations

import socket

from tests.compute.malicious.target import Target


def connect_over_tcp(at: Target) -> object:
    return socket.create_connection(("127.0.0.1", at.tcp_port), timeout=5)


def send_over_udp(at: Target) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", at.udp_port))


def look_a_name_up(_at: Target) -> object:
    return socket.getaddrinfo("localhost", "domain", proto=socket.IPPROTO_TCP) and socket.socket()


def listen_for_others(_at: Target) -> object:
    return socket.create_server(("127.0.0.1", 0))


def send_to_a_unix_socket(at: Target) -> object:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", at.unix_path)


def send_to_an_abstract_socket(at: Target) -> object:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", at.abstract)


def turn_a_pair_of_datagram_sockets_elsewhere(at: Target) -> object:
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return one.sendto(b"x", at.unix_path)


def turn_a_pair_of_sockets_elsewhere(at: Target) -> object:
    one, _ = socket.socketpair()
    return one.connect(at.unix_path)


def open_a_netlink_socket(_at: Target) -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
