"""A token that the command line makes is one that a server takes."""

import pytest

from apflow.cli.inputs.tokens import make_token
from apflow.core.settings import Settings
from apflow.server.auth.token import TokenCheck
from apflow.server.http.api_error import UnauthorizedError

SECRET = "a secret of the server, which is long enough"


@pytest.mark.parametrize(
    "settings",
    [
        Settings(jwt_secret=SECRET),
        Settings(jwt_secret=SECRET, jwt_algorithms=("RS256", "HS256"), jwks_url="http://127.0.0.1:9/"),
        Settings(jwt_secret=SECRET, jwt_audience="apflow", jwt_issuer="us"),
    ],
)
@pytest.mark.parametrize("is_admin", [False, True])
async def test_a_server_with_the_same_settings_takes_it(settings: Settings, is_admin: bool):
    made = make_token(settings, "ann", is_admin=is_admin, seconds=60)
    caller = await TokenCheck(settings).caller(made["token"])
    assert (caller.user_id, caller.is_admin) == ("ann", is_admin)


async def test_a_server_with_another_secret_does_not():
    made = make_token(Settings(jwt_secret=SECRET), "ann", is_admin=True, seconds=60)
    with pytest.raises(UnauthorizedError):
        await TokenCheck(Settings(jwt_secret=SECRET[::-1])).caller(made["token"])
