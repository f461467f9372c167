"""The models that a router offers, as OpenAI lists them."""

from collections.abc import Iterable
from typing import Any

import msgspec

from tristrata.protocol.ids import ModelId
from tristrata.router.http import Refusal


class ServedModel(msgspec.Struct, frozen=True):
    """A model that the router offers. ``context_length`` is in tokens; ``embeds``: it makes embeddings, not text."""

    name: str
    model_id: ModelId
    context_length: int
    embeds: bool = False

    @property
    def fingerprint(self) -> str:
        """OpenAI's ``system_fingerprint``: here, of the weights, tokenizer and template that answer."""
        return f"fp_{self.model_id.hex()[:10]}"

    @property
    def description(self) -> dict[str, Any]:
        """OpenAI's model object. Nobody registers when a model was made, so ``created`` is 0."""
        return {"id": self.name, "object": "model", "created": 0, "owned_by": "tristrata"}


class Catalogue:
    """All models of a router by name."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._models = {model.name: model for model in models}

    @property
    def listing(self) -> dict[str, Any]:
        """OpenAI's list of models."""
        return {"object": "list", "data": [model.description for model in self._models.values()]}

    @property
    def first_chat(self) -> str:
        """The name of the first model that makes text; empty where none does."""
        return next((model.name for model in self._models.values() if not model.embeds), "")

    def find_for(self, name: str, *, embeds: bool) -> ServedModel:
        """The model of this name, if it makes what is asked for. Raises `Refusal` (404, 400)."""
        model = self.find(name)
        if model.embeds != embeds:
            makes = "text: use /v1/chat/completions" if embeds else "embeddings: use /v1/embeddings"
            raise Refusal(400, "wrong_endpoint", f"The model '{name}' makes {makes}", "model")
        return model

    def find(self, name: str) -> ServedModel:
        """The model of this name. Raises `Refusal` (404)."""
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self._models)
            raise Refusal(404, "model_not_found", f"The model '{name}' does not exist; there is {known}", "model")
        return model
