"""Which key a host must have: the lines of a known_hosts file, and what they say of a key that is shown.

Keys are compared as they are on the wire, byte for byte. Marked lines: `@revoked` is respected, a certificate
authority (`@cert-authority`) is not, and its hosts count as unknown.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apflow.executor.ssh.errors import SshHostKeyChangedError, SshHostKeyUnknownError

REVOKED, AUTHORITY = "@revoked", "@cert-authority"
# As OpenSSH prefers them. An RSA key has one type and, without SHA-1, two algorithms.
ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host's public key."""

    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return f"SHA256:{digest.rstrip('=')}"

    def line(self, name: str) -> str:
        """Return the line of a known_hosts file that makes it known."""
        return f"{name} {self.type} {base64.b64encode(self.blob).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class KnownHost:
    """One line: the hosts that it is about, and their key."""

    marker: str  # REVOKED, or none
    patterns: tuple[str, ...]
    key: HostKey

    def is_about(self, name: str) -> bool:
        """Return whether the line is about the host of this name."""
        wanted = [each for each in self.patterns if not each.startswith("!")]
        unwanted = [each[1:] for each in self.patterns if each.startswith("!")]
        return any(_matches(each, name) for each in wanted) and not any(
            _matches(each, name) for each in unwanted
        )


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """All the lines that count, and where they stand, for people."""

    where: str
    entries: Sequence[KnownHost]

    def algorithms(self, name: str) -> tuple[str, ...]:
        """Return the algorithms to ask a host for: those of its known keys first."""
        known = {key.type for key in self._keys(name, "")}
        types = sorted(ALGORITHMS, key=lambda each: each not in known)
        return tuple(algorithm for each in types for algorithm in ALGORITHMS[each])

    def check(self, name: str, key: HostKey, *, accepts_new: bool = False) -> bool:
        """Return whether the key is the host's known one; False: the host is new, and new ones are accepted.

        A host that has a known key of another type is not new: who stands between would only have to leave
        out the known types.

        Raises:
            SshHostKeyChangedError: the known key is another one, or this one is revoked.
            SshHostKeyUnknownError: no key is known.
        """
        known = self._keys(name, "")
        if key in self._keys(name, REVOKED):
            raise SshHostKeyChangedError(name, key.type, key.fingerprint, self.where, [])
        if key in known:
            return True
        if known:
            shown = [f"{each.type} {each.fingerprint}" for each in known]
            raise SshHostKeyChangedError(name, key.type, key.fingerprint, self.where, shown)
        if not accepts_new:
            raise SshHostKeyUnknownError(name, key.type, key.fingerprint, self.where, key.line(name))
        return False

    def _keys(self, name: str, marker: str) -> list[HostKey]:
        return [each.key for each in self.entries if each.marker == marker and each.is_about(name)]


def name_of(host: str, port: int) -> str:
    """Return what a host is called in a known_hosts file."""
    name = host.casefold()
    return name if port == 22 else f"[{name}]:{port}"


def is_lines(text: str) -> bool:
    """Return whether a string contains lines of a known_hosts file, rather than the path of one."""
    return "\n" in text.strip() or next(read_lines(text), None) is not None


def read_lines(text: str) -> Iterator[KnownHost]:
    """Yield what the lines of a known_hosts file say. As ssh does, pass over those that say nothing."""
    for line in text.splitlines():
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", REVOKED):
            continue
        blob = _blob(fields[1], fields[2])
        if blob is not None:
            yield KnownHost(marker, tuple(fields[0].split(",")), HostKey(fields[1], blob))


def _blob(key_type: str, text: str) -> bytes | None:
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    name = key_type.encode()
    return blob if blob.startswith(len(name).to_bytes(4, "big") + name) else None


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        return _matches_hash(pattern, name)
    if "*" not in pattern and "?" not in pattern:
        return pattern.casefold() == name
    # The brackets of `[host]:port` are themselves, only * and ? are not.
    return fnmatch.fnmatchcase(name, re.sub(r"\[", "[[]", pattern.casefold()))


def _matches_hash(pattern: str, name: str) -> bool:
    try:
        _, _, salt, digest = pattern.split("|")
        expected = base64.b64decode(digest, validate=True)
        made = hmac.new(base64.b64decode(salt, validate=True), name.encode(), hashlib.sha1).digest()
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(made, expected)
