"""Loading private keys from a string, or from a file that only its owner can read."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from apflow.core.errors import FileRefusedError
from apflow.core.permissions.file_policy import file_policy
from apflow.executor.ssh.errors import SshInputError

MAX_SIZE = 64 << 10  # a private key is a few KB
_KINDS: tuple[tuple[type, type[paramiko.PKey]], ...] = (
    (rsa.RSAPrivateKey, paramiko.RSAKey),
    (ed25519.Ed25519PrivateKey, paramiko.Ed25519Key),
    (ec.EllipticCurvePrivateKey, paramiko.ECDSAKey),
)


def read_key_file(path: str) -> bytes:
    """Return what a key file holds.

    Raises:
        SshInputError: it cannot be read, others can read it too, or its path leads to another place.
        FileRefusedError: the file policy does not permit it.
    """
    policy = file_policy()
    try:
        policy.check(path)
        given = Path(path).expanduser()
        real = given.resolve(strict=True)
        # Links within a folder are how mounted secrets are kept up to date; one that leads out of it is
        # may be an attempt to read another file.
        if not real.is_relative_to(given.parent.resolve()):
            raise SshInputError(f"The key file {path} is a link out of its folder, to {real}. Name the file.")
        file = policy.open(str(real))
    except FileRefusedError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # a null byte in it; no home, or links in a circle
        reason = getattr(error, "strerror", None) or str(error)
        raise SshInputError(f"The key file {path!r} cannot be read: {reason}.") from error
    try:
        _check_mode(path, os.fstat(file))
        return os.read(file, MAX_SIZE + 1)
    finally:
        os.close(file)


def parse_key(data: bytes, passphrase: str | None) -> paramiko.PKey:
    """Return the key that signs logins.

    Raises:
        SshInputError: it is not an RSA, Ed25519 or ECDSA key, or the passphrase is missing or wrong.
    """
    if len(data) > MAX_SIZE or b"PRIVATE KEY-----" not in data:
        raise SshInputError("The value is not a private key. Private keys begin with -----BEGIN.")
    loaded = _load(data.replace(b"\r\n", b"\n").strip() + b"\n", passphrase)
    kind = next((ours for theirs, ours in _KINDS if isinstance(loaded, theirs)), None)
    if kind is None:
        raise SshInputError("The private key is of no kind that is used. Give an Ed25519, ECDSA or RSA key.")
    text = loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    try:
        return kind.from_private_key(io.StringIO(text.decode("ascii")))
    except (paramiko.SSHException, ValueError) as error:
        raise SshInputError("The private key cannot be used for logging in.") from error


def _check_mode(path: str, found: os.stat_result) -> None:
    if found.st_mode & 0o077:
        raise SshInputError(
            f"The key file {path} can be read or written by others (mode {stat.S_IMODE(found.st_mode):04o}). "
            f"chmod 600 it."
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise SshInputError(f"The key file {path} belongs to another user (uid {found.st_uid}).")


def _load(data: bytes, passphrase: str | None) -> serialization.SSHPrivateKeyTypes:
    load = (
        serialization.load_ssh_private_key if b"BEGIN OPENSSH" in data else serialization.load_pem_private_key
    )
    try:
        try:
            return load(data, None)  # type: ignore[return-value]
        except TypeError as error:  # it is encrypted
            if not passphrase:
                raise SshInputError("The private key is encrypted. Give its passphrase.") from error
            return load(data, passphrase.encode())  # type: ignore[return-value]
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Never the cause's own words: they may quote the key.
        how = "with this passphrase, or is damaged" if passphrase else "or is damaged"
        raise SshInputError(f"The private key cannot be read {how}.") from error
