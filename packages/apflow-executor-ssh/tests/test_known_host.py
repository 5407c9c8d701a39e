import base64
import subprocess
from pathlib import Path

import pytest

from apflow.executor.ssh.errors import SshHostKeyChangedError, SshHostKeyUnknownError
from apflow.executor.ssh.knownhost import HostKey, KnownHosts, is_lines, name_of, read_lines


def key(letter: str, kind: str = "ssh-ed25519") -> HostKey:
    return HostKey(kind, len(kind).to_bytes(4, "big") + kind.encode() + letter.encode())


def known(*lines: str) -> KnownHosts:
    return KnownHosts("there", tuple(read_lines("\n".join(lines))))


def line(names: str, letter: str = "a", kind: str = "ssh-ed25519") -> str:
    return key(letter, kind).line(names)


@pytest.mark.parametrize(
    ("patterns", "name", "is_about"),
    [
        ("one.example", "one.example", True),
        ("One.Example", "one.example", True),
        ("one.example", "two.example", False),
        ("two.example,one.example", "one.example", True),
        ("*.example", "one.example", True),
        ("*.example", "example", False),
        ("*.example,!one.example", "one.example", False),
        ("!one.example", "two.example", False),
        ("h?st", "host", True),
        ("h[ao]st", "host", False),
        ("host", "[host]:2222", False),
        ("[host]:2222", "[host]:2222", True),
        ("[*.example]:2222", "[one.example]:2222", True),
        ("[*.example]:2222", "[one.example]:22", False),
        ("|1|nonsense", "host", False),
        ("|1|AAAA|AAAA", "host", False),
    ],
)
def test_a_line_is_about_the_hosts_that_its_patterns_match(patterns: str, name: str, is_about: bool):
    [entry] = read_lines(line(patterns))
    assert entry.is_about(name) == is_about


def test_hashed_names_are_those_of_ssh_keygen(tmp_path: Path):
    path = tmp_path / "known_hosts"
    real = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(range(32)))
    path.write_text(f"{real.line('one.example')}\n{real.line('[one.example]:2222')}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    assert "one.example" not in path.read_text()
    hashed = known(path.read_text())
    for name in ("one.example", "[one.example]:2222"):
        assert hashed.check(name, real)
        with pytest.raises(SshHostKeyChangedError):
            hashed.check(name, key("other"))
    with pytest.raises(SshHostKeyUnknownError):
        hashed.check("two.example", real)


def test_a_host_on_another_port_has_a_name_of_its_own():
    assert name_of("Build.Example", 22) == "build.example"
    assert name_of("::1", 2222) == "[::1]:2222"


def test_lines_that_say_nothing_are_passed_over():
    text = ["", "# x", "host", "host ssh-ed25519", "host ssh-ed25519 !!!", f"@cert-authority {line('host')}"]
    wrong_type = f"host ssh-rsa {base64.b64encode(key('a').blob).decode()}"
    assert known(*text, wrong_type, "@new " + line("host")).entries == ()


def test_the_known_types_are_asked_for_first():
    both = known(line("host", kind="ssh-rsa"), line("host", kind="ecdsa-sha2-nistp384"))
    assert both.algorithms("host")[:3] == ("ecdsa-sha2-nistp384", "rsa-sha2-512", "rsa-sha2-256")
    assert both.algorithms("other")[0] == "ssh-ed25519"
    assert "ssh-rsa" not in both.algorithms("host")


def test_a_host_whose_known_keys_are_of_other_types_is_no_new_one():
    with pytest.raises(SshHostKeyChangedError):
        known(line("host", kind="ssh-rsa")).check("host", key("a"), accepts_new=True)


def test_a_new_host_is_accepted_only_where_that_is_the_policy():
    assert known(line("host")).check("host", key("a"))
    assert not known(line("other")).check("host", key("a"), accepts_new=True)
    with pytest.raises(SshHostKeyUnknownError, match=r"host ssh-ed25519 AAAA") as refused:
        known().check("host", key("a"))
    assert known(refused.value.line).check("host", key("a"))


def test_a_revoked_key_is_refused_even_where_it_is_known():
    with pytest.raises(SshHostKeyChangedError, match="revoked"):
        known(line("host"), f"@revoked {line('*')}").check("host", key("a"), accepts_new=True)


def test_lines_are_told_from_a_path():
    assert is_lines(line("host"))
    assert is_lines("a\nb")
    assert not is_lines("~/.ssh/known_hosts")
    assert not is_lines("/a path/with spaces/known_hosts")
