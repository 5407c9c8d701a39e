"""Settings that cannot be meant keep a server from starting."""

from __future__ import annotations

import pytest
from serving import SECRET

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server.app import create_app
from apflow.server.startup_checks import check_settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(jwks_url="file:///etc/passwd"), "APFLOW_JWKS_URL is 'file:///etc/passwd'"),
        (Settings(jwks_url="issuer.example/keys"), "APFLOW_JWKS_URL"),
        (Settings(jwks_url="https://issuer.example:x/"), "APFLOW_JWKS_URL"),
        (Settings(jwks_url="https://[::1/"), "APFLOW_JWKS_URL"),
        (Settings(public_url="apflow.example"), "APFLOW_PUBLIC_URL"),
        (Settings(otlp_endpoint="collector:4318"), "APFLOW_OTLP_ENDPOINT"),
        (Settings(cors_origins=("https://a.example", "b.example")), "APFLOW_CORS_ORIGINS names 'b.example'"),
        (Settings(cors_origins=("https://a.example/",)), "APFLOW_CORS_ORIGINS"),
        (Settings(cors_origins=("https://A.example?",)), "APFLOW_CORS_ORIGINS"),
        (Settings(net_policy="closed"), "APFLOW_NET_POLICY"),
        (Settings(net_allow=("300.1.1.1/99",)), "APFLOW_NET_ALLOW"),
        (Settings(jwt_audience="apflow"), "APFLOW_JWT_AUDIENCE restrict tokens"),
        (Settings(jwt_algorithms=("HS512",), jwt_issuer="x"), "APFLOW_JWT_ALGORITHMS and APFLOW_JWT_ISSUER"),
    ],
    ids=str,
)
def test_what_would_only_show_later_is_told_at_the_start(settings: Settings, expected: str):
    with pytest.raises(SettingsError, match=expected):
        create_app(settings, db=MemoryStore())


def test_what_can_be_meant_is_taken():
    check_settings(Settings())
    check_settings(
        Settings(
            jwks_url="https://issuer.example/keys",
            jwt_audience="apflow",
            public_url="https://apflow.example:8443/api",
            otlp_endpoint="http://127.0.0.1:4318",
            cors_origins=("*", "https://page.example", "http://localhost:3000", "http://[::1]:3000"),
            net_policy="public",
            net_allow=("10.0.0.0/8", "db.internal"),
        )
    )
    check_settings(Settings(jwt_secret=SECRET, jwt_algorithms=("HS512",)))
