"""Who may come in: by a key of the settings, or by one that lives for a while."""

import base64

from serve.web.keys import Keys, offers_subprotocol

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


def test_a_short_lived_key_that_was_changed_or_made_elsewhere_does_not_open() -> None:
    keys = Keys([KEY])
    made = keys.make(60, {"instructions": "Be kind."})
    assert made is not None
    key = made[0]
    changed = [key[:5] + ("A" if key[5] != "A" else "B") + key[6:], key[:-8], key + "AAAA", "ek_"]
    for shut in [*changed, "ek_é", "ek_!"]:
        assert keys.grant(bearer(shut)) is None
    assert Keys([KEY]).grant(bearer(key)) is None


def test_servers_that_share_a_secret_take_each_others_keys() -> None:
    made = Keys([KEY], secret="s" * 32).make(60, {})
    assert made is not None
    assert Keys(["another-key"], secret="s" * 32).grant(bearer(made[0])) is not None


def test_a_session_that_no_header_could_carry_is_refused() -> None:
    keys = Keys([KEY])
    words = {"instructions": " ".join(map(str, range(1_000)))}
    made = keys.make(60, words)
    assert made is not None and len(made[0]) < 7_100
    assert keys.make(60, {"instructions": " ".join(map(str, range(10_000)))}) is None


def test_a_short_lived_key_does_not_tell_the_secret_or_a_lasting_key() -> None:
    made = Keys([KEY], secret="s" * 32).make(60, {})
    assert made is not None
    text = made[0].removeprefix("ek_")
    carried = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert KEY.encode() not in carried and b"ssss" not in carried
