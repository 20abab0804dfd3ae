"""Settings: strict, forgiving, and edited without losing what the operator wrote."""

from __future__ import annotations

import pytest

from core import config
from core.domain.budget import Budget
from core.domain.errors import ConfigError, NotFoundError
from core.home import Home


def test_every_key_has_a_type_a_default_an_environment_name_and_a_line(home: Home) -> None:
    loaded = config.load(home, {})
    assert loaded.problems == ()
    for key in config.KEYS.values():
        assert key.type_name
        assert key.doc.endswith(".")
        assert key.environment == f"UNDERSTUDY_{key.section}_{key.name}".upper()
        assert config.value_of(loaded.settings, key.path) == key.default
        assert loaded.origins[key.path] == "default"


def test_the_first_limits_are_the_domains() -> None:
    limits = config.Settings().budget
    assert (limits.usd_per_hour, limits.usd_per_month, limits.machines) == (
        Budget().usd_per_hour,
        Budget().usd_per_month,
        Budget().machines,
    )


def test_a_wrong_line_is_one_sentence_and_the_rest_works(home: Home) -> None:
    home.config_file.write_text(
        "[vast]\npoll_s = 12\nfoo = 1\n[rent]\ndisk_gb = 'x'\nattempts = 99\n[engine]\nlog_level = 'loud'\n[nonsense]\n"
        "[keys]\nrent = 'r'\nback = ['escape', 'q']\nodd = 3\n"
    )
    loaded = config.load(home, {"UNDERSTUDY_CONSOLE_FPS": "many", "UNDERSTUDY_RENT_JUDGE_NETWORK": "false"})
    assert len(loaded.problems) == 7
    assert all("left out" in p and "\n" not in p for p in loaded.problems)
    assert loaded.settings.vast.poll_s == 12.0
    assert loaded.settings.rent == config.RentSettings(judge_network=False)
    assert loaded.settings.keys == {"rent": "r", "back": "escape q"}
    assert loaded.origins["vast.poll_s"] == "file"
    assert loaded.origins["rent.judge_network"] == "environment"


@pytest.mark.parametrize("content", [b"[vast\n", b"\xff\xfe", b"vast = 3\n"])
def test_a_broken_file_leaves_the_defaults(home: Home, content: bytes) -> None:
    home.config_file.write_bytes(content)
    loaded = config.load(home, {})
    assert len(loaded.problems) == 1
    assert loaded.settings == config.Settings()


def test_a_lab_home_refuses_another_address(home: Home) -> None:
    home.lab_mark.touch()
    home.config_file.write_text("[vast]\nbase_url = 'https://example.org'\n")
    loaded = config.load(home, {})
    assert loaded.settings.vast.base_url == ""
    assert "lab home" in loaded.problems[0]
    with pytest.raises(ConfigError):
        config.set_value(home, "vast.base_url", "https://example.org")


def test_set_keeps_comments_and_order(home: Home) -> None:
    home.config_file.write_text("# mine\n[rent]\ndisk_gb = 80 # big\n\n[vast]\npoll_s = 9.0\n")
    assert config.set_value(home, "rent.attempts", "7") == 7
    assert config.set_value(home, "vast.enabled", "false") is False
    text = home.config_file.read_text()
    assert text.startswith("# mine\n[rent]\ndisk_gb = 80 # big\n")
    assert text.index("attempts = 7") < text.index("[vast]")
    assert config.load(home, {}).settings.vast == config.VastSettings(enabled=False, poll_s=9.0)


def test_set_refuses_what_it_does_not_take(home: Home) -> None:
    with pytest.raises(NotFoundError):
        config.set_value(home, "rent.nothing", "1")
    with pytest.raises(ConfigError, match="attempts"):
        config.set_value(home, "rent.attempts", "many")
    assert not home.config_file.exists()
    home.config_file.write_text("[rent\n")
    with pytest.raises(ConfigError, match="cannot be edited"):
        config.set_value(home, "rent.attempts", "3")
    assert home.config_file.read_text() == "[rent\n"


def test_a_password_in_a_url_is_never_shown(home: Home) -> None:
    config.set_value(home, "engine.database_url", "postgresql://me:hunter2@db/understudy")
    settings = config.load(home, {}).settings
    assert "hunter2" not in repr(settings)
    assert config.shown("engine.database_url", settings.engine.database_url) == "postgresql://me:***@db/understudy"
