import apflow.client


def test_every_public_name_exists():
    assert [name for name in apflow.client.__all__ if not hasattr(apflow.client, name)] == []
