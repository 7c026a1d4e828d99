import pytest

from tests.interpreters.fakes import FakeFactory


@pytest.fixture
def factory() -> FakeFactory:
    return FakeFactory()
