import apflow.server


def test_every_public_name_exists():
    assert [name for name in apflow.server.__all__ if not hasattr(apflow.server, name)] == []
