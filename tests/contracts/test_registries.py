"""Models."""

from tests.contracts.conftest import contract, reverts
from tristrata.protocol.ids import model_id


def test_model__registered_twice__has_the_id_python_computes() -> None:
    registry = contract("orchestration/ModelRegistry.vy")
    fields = ("smollm2-135m-instruct", b"\1" * 32, b"\2" * 32, b"\3" * 32)

    assert registry.register(*fields) == registry.register(*fields) == model_id(*fields)
    assert registry.model(model_id(*fields)).name == fields[0]
    with reverts("ModelRegistry", "ModelIncomplete"):
        registry.register("", *fields[1:])
