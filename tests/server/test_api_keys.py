"""API keys: no route without one, a file that changes, and what a client is told."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

from glm_engine.errors import ConfigError
from glm_server import api_keys
from glm_server.access import PUBLIC
from glm_server.api_keys import ApiKeys
from glm_server.http_server import HttpServer, PortLimits
from server_support import Harness

KEY, OTHER = "k" * 16, "o" * 20
MakeHarness = Callable[..., Harness]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# team one\n{KEY}\n\n")
    return path


@pytest.fixture
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "LOOK_S", 0)


def replace_file(path: Path, text: str) -> None:
    """As a mounted Secret changes: another file under the same name."""
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def test_every_route_needs_a_key(harness: MakeHarness, file: Path) -> None:
    server = harness(settings={"api_keys_file": str(file)})
    checked = 0
    for rule in server.app.url_map.iter_rules():
        path = rule.rule.replace("<path:model>", "toy")
        for method in rule.methods or ():
            response = server.client.open(path, method=method)
            if rule.endpoint in PUBLIC:
                assert response.status_code == 200
            else:
                assert response.status_code == 401, (method, path)
                checked += 1
    assert checked >= 5
    response = server.client.get("/nothing")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.headers["x-request-id"]
    assert response.get_json()["error"]["code"] == "missing_api_key"


def test_probes_are_all_that_is_public() -> None:
    assert {"health.livez", "health.readyz"} == PUBLIC


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer  {KEY} ", 200),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        ("Bearer # team one", 401),
        ("Bearer ", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        ("Bearer kéy" + "x" * 20, 401),
    ],
)
def test_headers(harness: MakeHarness, file: Path, header: str, status: int) -> None:
    server = harness(settings={"api_keys_file": str(file)})
    assert server.client.get("/v1/models", headers={"Authorization": header}).status_code == status


def test_openai_client_with_a_key(harness: MakeHarness, file: Path) -> None:
    server = harness(settings={"api_keys_file": str(file)})
    http = HttpServer(server.app, host="127.0.0.1", port=0, limits=PortLimits(4, 60, 65536, 8192, 20))
    http.start()
    url = f"http://127.0.0.1:{http.port}/v1"
    try:
        with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            assert client.completions.create(model="toy", prompt="w1").choices
        with openai.OpenAI(base_url=url, api_key=OTHER, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as caught:
                client.completions.create(model="toy", prompt="w1")
            assert caught.value.code == "invalid_api_key"
    finally:
        http.stop(0.5)
    assert server.metric("rejected_total", reason="unknown_key") == 1


def test_without_a_file_everybody_may_ask(harness: MakeHarness) -> None:
    assert harness().client.get("/v1/models").status_code == 200


@pytest.mark.usefixtures("looks_always")
def test_rotation(file: Path) -> None:
    keys = ApiKeys(str(file))
    replace_file(file, f"{KEY}\n{OTHER}\n")
    assert keys.allows(KEY)
    assert keys.allows(OTHER)
    replace_file(file, f"{OTHER}\n")
    assert not keys.allows(KEY)
    assert keys.allows(OTHER)
    replace_file(file, "")
    assert not keys.allows(OTHER)


@pytest.mark.usefixtures("looks_always")
def test_a_file_that_goes_wrong_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = ApiKeys(str(file))
    for spoil in (lambda: file.write_text("short"), lambda: file.write_bytes(b"\xff" * 30), lambda: os.remove(file)):
        caplog.clear()
        spoil()
        with caplog.at_level(logging.ERROR):
            assert keys.allows(KEY)
            assert not keys.allows(OTHER)
        assert "stay as they were" in caplog.text
        assert "short" not in caplog.text
    file.write_text(OTHER)
    assert keys.allows(OTHER)


def test_the_file_is_not_read_for_every_request(file: Path) -> None:
    keys = ApiKeys(str(file))
    os.remove(file)
    assert keys.allows(KEY)  # within LOOK_S nobody looks


def test_bad_files_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        ApiKeys(str(tmp_path / "none"))
    (tmp_path / "short").write_text("abc")
    with pytest.raises(ConfigError, match="must have >= 16 characters; key 1 has 3"):
        ApiKeys(str(tmp_path / "short"))
