# pragma version 0.4.3
# pragma evm-version prague
"""
@title Models by their content
@license Apache-2.0
@notice A model's id is the hash of its name and of the digests of its weights, tokenizer and chat template: nobody can
        register something else under the same id, so anyone may register.
"""


struct Model:
    name: String[64]
    weights: bytes32
    tokenizer: bytes32
    template: bytes32


_models: HashMap[bytes32, Model]


event ModelRegistered:
    model_id: indexed(bytes32)
    name: String[64]


@external
def register(name: String[64], weights: bytes32, tokenizer: bytes32, template: bytes32) -> bytes32:
    """
    @notice Put a model on record. Doing it twice changes nothing.
    @return The model's id.
    """
    if len(name) == 0 or weights == empty(bytes32):
        raw_revert(abi_encode(name, weights, method_id=method_id("ModelIncomplete(string,bytes32)")))
    model_id: bytes32 = keccak256(abi_encode(name, weights, tokenizer, template))
    if self._models[model_id].weights == empty(bytes32):
        self._models[model_id] = Model(name=name, weights=weights, tokenizer=tokenizer, template=template)
        log ModelRegistered(model_id=model_id, name=name)
    return model_id


@external
@view
def model(model_id: bytes32) -> Model:
    """
    @notice What is on record under an id; all empty when nothing is.
    """
    return self._models[model_id]
