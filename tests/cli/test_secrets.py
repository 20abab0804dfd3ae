"""Secrets: stored for the operator alone, shown to nobody, and never real in a lab."""

from __future__ import annotations

import json
import pickle
import stat

import keyring
import msgspec
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from core import secrets
from core.domain.errors import ConfigError, IntentRefused, NotFoundError, StoreError
from core.home import Home
from core.secrets import Secret

VALUE = "k-6f1e-secret"


class Drawer(KeyringBackend):
    """A real backend as far as keyring is concerned: it keeps what it is given, until it is locked."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def set_password(self, service: str, username: str, password: str) -> None:
        self._open()
        self.kept[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        self._open()
        return self.kept.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        self._open()
        del self.kept[service, username]

    def _open(self) -> None:
        if self.locked:
            raise KeyringLocked("locked")


@pytest.fixture
def drawer() -> object:
    before = keyring.get_keyring()
    backend = Drawer()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(VALUE)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!s:>20}", repr({"a": secret})):
        assert VALUE not in text
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert secret.reveal() == VALUE
    assert secret == Secret(VALUE) != Secret("other")


def test_without_a_keyring_a_private_file_holds_it(home: Home) -> None:
    where = secrets.set(home, "vast", Secret(VALUE + "\n"))
    file = home.secrets_dir / "vast"
    assert str(file) in where
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.secrets_dir.stat().st_mode) == 0o700
    found = secrets.get(home, "vast", {})
    assert found is not None
    assert found.reveal() == VALUE
    assert secrets.names(home, {}) == {"vast": "file"}
    secrets.remove(home, "vast")
    assert secrets.get(home, "vast", {}) is None
    with pytest.raises(NotFoundError):
        secrets.remove(home, "vast")


def test_a_file_that_others_can_read_is_refused(home: Home) -> None:
    secrets.set(home, "vast", Secret(VALUE))
    (home.secrets_dir / "vast").chmod(0o644)
    with pytest.raises(ConfigError) as refused:
        secrets.get(home, "vast", {})
    assert VALUE not in str(refused.value)


def test_a_keyring_that_works_holds_it_and_the_home_does_not(home: Home, drawer: Drawer) -> None:
    assert "keyring" in secrets.set(home, "vast", Secret(VALUE))
    assert all(VALUE not in p.read_text() for p in home.secrets_dir.iterdir())
    found = secrets.get(home, "vast", {})
    assert found is not None
    assert found.reveal() == VALUE
    assert secrets.names(home, {}) == {"vast": "keyring"}
    drawer.locked = True
    with pytest.raises(StoreError, match="cannot be opened"):
        secrets.get(home, "vast", {})
    drawer.locked = False
    secrets.remove(home, "vast")
    assert drawer.kept == {}


def test_the_environment_wins(home: Home) -> None:
    secrets.set(home, "vast", Secret("stored"))
    found = secrets.get(home, "vast", {"VAST_API_KEY": VALUE})
    assert found is not None
    assert found.reveal() == VALUE
    assert secrets.names(home, {"VAST_API_KEY": VALUE}) == {"vast": "environment VAST_API_KEY"}


def test_a_lab_home_knows_its_lab_and_no_real_key(home: Home) -> None:
    secrets.set(home, "vast", Secret("real"))
    home.lab_mark.touch()
    assert secrets.get(home, "vast", {"VAST_API_KEY": "real"}) is None
    home.lab_dir.mkdir()
    about = {"pid": 1, "token": "lab-token", "control": "http://127.0.0.1:1", "endpoints": {}}
    home.lab_file.write_text(json.dumps(about))
    found = secrets.get(home, "vast", {"VAST_API_KEY": "real"})
    assert found is not None
    assert found.reveal() == "lab-token"
    with pytest.raises(IntentRefused):
        secrets.set(home, "vast", Secret(VALUE))


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "x" * 60, ".hidden"])
def test_a_name_is_never_a_path(home: Home, name: str) -> None:
    with pytest.raises(IntentRefused):
        secrets.set(home, name, Secret(VALUE))


@pytest.mark.parametrize("value", ["", "  \n", "two\nlines", "esc\x1b[0m"])
def test_a_value_is_one_line_of_text(home: Home, value: str) -> None:
    with pytest.raises(IntentRefused):
        secrets.set(home, "vast", Secret(value))
