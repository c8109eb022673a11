"""Which draft model guesses ahead for a model (speculative decoding): the operator's, the catalogue's, none.

A draft must have the model's vocabulary. The engine says nothing of one that has not: it serves on
without it, with the draft's memory taken all the same. So the sizes are compared here, before.
Source: llama.cpp, `common_speculative_are_compatible`.
"""

import logging
from pathlib import Path

from models_registry.gguf_header import BadModelFile, read_facts
from nodes.mesh.model_facts import Capability, ModelFacts

VOCABULARY_PADDING_MAX = 128
"""Tokens by which the vocabularies of a model and its draft may differ: llama.cpp's own limit. Padding
rows make some: Qwen2.5 has 151,936 or 152,064 for the same tokens."""
log = logging.getLogger("mesh.node")


class UnfitDraft(Exception):
    """The operator's draft cannot be used for this model. `str()` is the whole sentence."""


def choose(
    model: ModelFacts, paired: ModelFacts | None, given: Path | None, *, off: bool, must: bool
) -> ModelFacts | None:
    """Return the draft to use for `model`, or None.

    `given` is `--draft`, `paired` the catalogue's choice that is on disk, `off` is `--no-draft`. With
    `must` a given draft that does not fit is refused; without, the model is served without one, and
    the log says so: the flag was meant for another of this node's models.

    Raises:
        UnfitDraft: only with `must`.
    """
    if off:
        return None
    if given is None:
        return paired if paired is not None and may_draft(paired, model) else None
    try:
        draft = read_facts(given)
        trouble = _trouble(draft, model)
    except BadModelFile as bad:
        trouble = f"The draft {bad}"
    if trouble is None:
        return draft
    if must:
        raise UnfitDraft(f"{trouble} Or leave --draft out; --no-draft serves without.")
    log.warning("%s is served without a draft: %s", model.name, trouble)
    return None


def _trouble(draft: ModelFacts, model: ModelFacts) -> str | None:
    """Return why `draft` cannot guess for `model`, or None when it can."""
    if not generates(model):
        return f"{model.name} makes embeddings alone: nothing is to be guessed."
    if not may_draft(draft, model):
        return (
            f"{draft.name} cannot draft for {model.name}: its vocabulary has {draft.vocab_size} "
            f"tokens, not {model.vocab_size}. Give a smaller model of the same family."
        )
    return None


def may_draft(draft: ModelFacts, model: ModelFacts) -> bool:
    """Return whether `draft` has the vocabulary of `model`, as far as its size tells."""
    same = abs(draft.vocab_size - model.vocab_size) <= VOCABULARY_PADDING_MAX
    return same and generates(model)


def generates(model: ModelFacts) -> bool:
    """Return whether the model makes text; one for embeddings alone has nothing to guess."""
    return Capability.EMBEDDINGS not in model.capabilities or Capability.CHAT in model.capabilities
