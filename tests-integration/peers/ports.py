"""Ports for programs that a test starts, which no other socket of the machine gets in the meantime."""

import socket


def free_socket(host: str = "127.0.0.1") -> socket.socket:
    """Return a socket that is bound to a free port of a loopback address, and reserves it while it is open.

    The kernel gives the port neither to a socket that asks for any port nor to a client's connection. A
    program that gets the port as an argument can listen on it, because servers set `SO_REUSEADDR` as this
    socket does, and this socket does not listen. The port of a closed socket can be taken before the program
    binds it.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, 0))
    return bound


def port_of(bound: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    port: int = bound.getsockname()[1]
    return port
