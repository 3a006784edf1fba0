"""App settings: what is missing or wrong is named; a default never turns a guard off."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from shared.api.call import Call
from shared.api.endpoint import serve
from shared.api.endpoints import ENDPOINTS
from shared.api.plane import ControlPlane
from shared.composition import build
from shared.settings import SettingInvalid, read_settings

GOOD = {
    "MIRRORPLANE_SUBSCRIPTION_ID": "s",
    "MIRRORPLANE_PUBLIC_URL": "https://control.example.org/",
    "MIRRORPLANE_WRAPPING_KEY": base64.b64encode(bytes(32)).decode(),
    "MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256": "AB" * 32,
    "MIRRORPLANE_AGENT_WHEEL": "/opt/agent.whl",
    "MIRRORPLANE_CONTROL_PLANE_ADDRESSES": "198.51.100.0/28, 2001:db8::/64",
}


def test_good_settings() -> None:
    settings = read_settings(GOOD)
    assert settings.public_url == "https://control.example.org"
    assert settings.arm_endpoint == "https://management.azure.com"
    assert settings.bootstrap_token_sha256 == "ab" * 32
    assert settings.agent_wheel == Path("/opt/agent.whl")
    assert settings.control_plane_addresses == ("198.51.100.0/28", "2001:db8::/64")
    assert settings.easy_auth is False
    assert "AAAA" not in repr(settings)


def test_the_platforms_host_name_is_the_default_address() -> None:
    without = {key: value for key, value in GOOD.items() if key != "MIRRORPLANE_PUBLIC_URL"}
    assert (
        read_settings({**without, "WEBSITE_HOSTNAME": "x.azurewebsites.net"}).public_url
        == "https://x.azurewebsites.net"
    )
    with pytest.raises(SettingInvalid, match="MIRRORPLANE_PUBLIC_URL"):
        read_settings(without)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MIRRORPLANE_SUBSCRIPTION_ID", ""),
        ("MIRRORPLANE_PUBLIC_URL", "control.example.org"),
        ("MIRRORPLANE_WRAPPING_KEY", ""),
        ("MIRRORPLANE_WRAPPING_KEY", "short"),
        ("MIRRORPLANE_WRAPPING_KEY", base64.b64encode(bytes(16)).decode()),
        ("MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256", "secret"),
        ("MIRRORPLANE_EASY_AUTH", "true"),
        ("MIRRORPLANE_CONTROL_PLANE_ADDRESSES", "everywhere"),
    ],
)
def test_a_bad_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingInvalid, match=name) as found:
        read_settings({**GOOD, name: value})
    assert "short" not in str(found.value)


def test_missing_storage_is_named() -> None:
    with pytest.raises(SettingInvalid, match="AzureWebJobsStorage"):
        build(GOOD)


async def test_an_app_without_its_settings_answers_that_it_is_not_configured() -> None:
    def broken() -> ControlPlane:
        raise SettingInvalid("the app setting MIRRORPLANE_WRAPPING_KEY is missing")

    call = Call("GET", "/api/health", {}, {}, {}, b"", "r")
    answer = await serve(broken, ENDPOINTS["health"], call)
    assert answer.status == 503
    assert answer.headers["x-ms-error-code"] == "NotConfigured"
