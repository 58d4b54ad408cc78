"""Settings: one object from file and flags; what would be unsafe or senseless is refused."""

from pathlib import Path

import pytest

from serve.web.settings import ServeSettings, read_settings, shown

KEY = "correct-horse"


def test_flags_go_before_the_file_and_the_file_before_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(
        f"port: 9000\nmax_sessions: 3\napi_keys: [{KEY}]\nlimits: {{idle_s: 30, json_depth: 9}}\n"
    )
    settings = read_settings(file, {"port": 9001, "host": None})
    assert (settings.port, settings.max_sessions, settings.host) == (9001, 3, "127.0.0.1")
    assert (settings.limits.idle_s, settings.limits.json_depth) == (30.0, 9)
    assert settings.limits.session_s == 3_600
    assert settings.api_keys == (KEY,)


def test_without_a_file_there_are_the_defaults() -> None:
    assert read_settings(None, {}) == ServeSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot: 1", "unknown key 'prot'"),
        ("port: high", "port='high'"),
        ("limits: {idle: 3}", "idle"),
        ("limits: {idle_s: 0}", "limits.idle_s=0"),
        ("limits: {message_mib: 16}", "may be 15 at most"),
        ("[1]", "must map names to values"),
        ("a: [", "not YAML"),
        ("port: 70000", "0 to 65535"),
        ("max_sessions: 0", "at least 1"),
        ("threads: 0", "threads=0: must be at least 1"),
        ("api_keys: [short]", "fewer than 8"),
        ("instructions: yes", "must be one of auto, always, never"),  # true, in YAML
        ("ssl_key: a.pem", "both or none"),
        ("ray_address: auto", "is for engine: ray"),
        ("engine: slurm", "engine"),
        ("host: 0.0.0.0", "no API key is set"),
        ("host: example.org", "no API key is set"),
    ],
)
def test_what_cannot_be_is_told_with_its_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(file, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert ServeSettings(host=host).loopback


def test_other_addresses_are_for_those_with_a_key_or_for_all_if_it_is_said() -> None:
    assert not ServeSettings(host="0.0.0.0", api_keys=(KEY,)).loopback
    assert ServeSettings(host="0.0.0.0", insecure=True).insecure


def test_keys_are_never_shown() -> None:
    settings = ServeSettings(api_keys=(KEY,))
    assert KEY not in repr(settings) + str(shown(settings))


@pytest.mark.parametrize(
    "text", [f"api_keys: {KEY}", "api_keys: [12345678]", "key_secret: 1234567"]
)
def test_a_key_that_can_not_be_is_not_told_either(tmp_path: Path, text: str) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="must be ") as caught:
        read_settings(file, {})
    assert not [one for one in (KEY, "1234567") if one in str(caught.value)]
