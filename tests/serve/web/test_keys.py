"""Who may come in: by a key of the settings, or by one that lives for a while."""

from serve.web.keys import MOST, Keys, offers_subprotocol

KEY = "correct-horse"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_any_key_of_the_settings_opens_and_no_other() -> None:
    keys = Keys([KEY, "another-key"])
    for opens in (bearer(KEY), bearer("another-key"), {"authorization": f"bearer  {KEY} "}):
        grant = keys.grant(opens)
        assert grant is not None and grant.lasting
    for shut in (
        {}, bearer(""), bearer(KEY[:-1]), bearer(KEY + "x"), bearer("ключ"),
        {"authorization": f"Basic {KEY}"}, {"authorization": KEY},
    ):  # fmt: skip
        assert keys.grant(shut) is None


def test_a_browser_gives_its_key_as_a_subprotocol() -> None:
    offered = {"sec-websocket-protocol": f"realtime, openai-insecure-api-key.{KEY}"}
    assert Keys([KEY]).grant(offered) is not None
    assert offers_subprotocol(offered) and not offers_subprotocol({})


def test_without_keys_everybody_comes_in() -> None:
    assert Keys([]).grant({}) is not None


def test_a_short_lived_key_brings_its_session_and_ends() -> None:
    now = [1_000.0]
    keys = Keys([KEY], now=lambda: now[0])
    made = keys.make(60, {"instructions": "Be kind."})
    assert made is not None and made[0].startswith("ek_") and made[1] == 1_060
    grant = keys.grant(bearer(made[0]))
    assert grant is not None and not grant.lasting
    assert grant.session == {"instructions": "Be kind."}
    now[0] = 1_061.0
    assert keys.grant(bearer(made[0])) is None


def test_short_lived_keys_are_not_kept_without_end() -> None:
    now = [0.0]
    keys = Keys([KEY], now=lambda: now[0])
    made = [keys.make(10, {}) for _ in range(MOST + 1)]
    assert made[-1] is None and made[-2] is not None
    now[0] = 11.0
    assert keys.make(10, {}) is not None


def test_what_is_kept_of_a_short_lived_key_does_not_open() -> None:
    keys = Keys([KEY])
    made = keys.make(60, {})
    assert made is not None and made[0] not in repr(vars(keys))
