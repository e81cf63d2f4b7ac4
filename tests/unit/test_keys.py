"""Keys of clients: files that nobody else can read, and that count for as long as they are there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from annul import keys
from annul.access import Role
from annul.errors import KeyProblem
from annul.server import new_pair
from annul_client.keys import KeyFile, key_of, load, write


def key(name: str = "web", **more: object) -> keys.Key:
    public, _ = new_pair()
    values = {"name": name, "public_key": public, "role": Role.SUBMIT, "created_at": 1_700_000_000.0}
    return msgspec.convert(values | more, keys.Key)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_counts_while_its_file_is_there(tmp_path: Path) -> None:
    """Also where it is looked up before it is made, and where another one takes its name."""
    known = keys.Keys(tmp_path)
    one, other = key(user="u1", types=["import-pdf"]), key()
    assert known.grant(one.public_key) is None
    keys.add(tmp_path, one)
    grant = known.grant(one.public_key)
    assert grant is not None
    assert (grant.name, grant.role, grant.user, grant.local) == ("key:web", Role.SUBMIT, "u1", False)
    assert grant.types == {"import-pdf"}
    keys.revoke(tmp_path, "web")
    assert known.grant(one.public_key) is None
    keys.add(tmp_path, other)
    assert known.grant(one.public_key) is None
    assert known.grant(other.public_key) is not None


def test_files_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.add(tmp_path, key())
        keys.server_key(tmp_path, new_pair())
    finally:
        os.umask(before)
    assert mode(tmp_path / "keys") == 0o700
    assert mode(tmp_path / "keys" / "web.json") == 0o600
    assert mode(tmp_path / "server.key") == 0o600


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "x" * 65, ".hidden", "é"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyProblem, match="name is 1 to 64"):
        keys.add(tmp_path, key(name))
    with pytest.raises(KeyProblem, match="no key"):
        keys.revoke(tmp_path, name)
    assert not (tmp_path / "keys").exists()


def test_no_key_is_written_over(tmp_path: Path) -> None:
    keys.add(tmp_path, key())
    with pytest.raises(KeyProblem, match="already"):
        keys.add(tmp_path, key())


def test_an_admin_is_not_bound(tmp_path: Path) -> None:
    with pytest.raises(KeyProblem, match="admin sees every user"):
        keys.add(tmp_path, key(role="admin", user="u1"))


@pytest.mark.parametrize("user", ["", "../u1", "-u1", "u 1", "x" * 65])
def test_users_that_are_none(tmp_path: Path, user: str) -> None:
    """An empty one would be the user of those who name none. Nor does a file help that somebody wrote by hand."""
    with pytest.raises(KeyProblem, match="no user's name"):
        keys.add(tmp_path, key(user=user))
    by_hand = key("by-hand", user=user)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "by-hand.json").write_bytes(msgspec.json.encode(by_hand))
    assert keys.Keys(tmp_path).grant(by_hand.public_key) is None
    assert [type(one).__name__ for one in keys.known(tmp_path)] == ["KeyProblem"]


def test_the_daemons_key_stays(tmp_path: Path) -> None:
    """And is refused where others could have read it."""
    first = keys.server_key(tmp_path, new_pair())
    assert keys.server_key(tmp_path, new_pair()) == first
    (tmp_path / "server.key").chmod(0o640)
    with pytest.raises(KeyProblem, match="can be read by others"):
        keys.server_key(tmp_path, new_pair())


def test_what_cannot_be_read_is_told_and_lets_nobody_in(tmp_path: Path) -> None:
    good = key("good")
    keys.add(tmp_path, good)
    (tmp_path / "keys" / "bad.json").write_text('{"name": "bad", "public_key": "short"')
    (tmp_path / "keys" / "other.json").write_bytes(msgspec.json.encode(key("someone-else")))
    found = keys.known(tmp_path)
    assert [type(one).__name__ for one in found] == ["KeyProblem", "Key", "KeyProblem"]
    known = keys.Keys(tmp_path)
    assert known.grant(good.public_key) is not None
    assert known.grant("short") is None


def test_a_clients_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public, secret = new_pair()
    made = KeyFile(name="web", public_key=public, secret_key=secret, server_key=public, endpoint="tcp://h:1")
    path = tmp_path / "web.key"
    write(path, made)
    assert mode(path) == 0o600
    assert load(path) == made == key_of(path) == key_of(made)
    assert secret not in repr(made)
    with pytest.raises(FileExistsError):
        write(path, made)
    monkeypatch.delenv("ANNUL_KEY", raising=False)
    assert key_of(None) is None
    monkeypatch.setenv("ANNUL_KEY", str(path))
    assert key_of(None) == made
    path.write_text('{"name": "web", "secret_key": "hunter2"}')
    with pytest.raises(ValueError, match="no key file") as problem:
        load(path)
    assert "hunter2" not in str(problem.value)
