"""Which draft is used: the operator's before the catalogue's, none where it could not work."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from models_registry.drafting import UnfitDraft, choose, generates
from models_registry.gguf_header import read_facts
from models_registry.supervision.draft_meter import counts_in
from nodes.mesh.model_facts import Capability, ModelFacts


@pytest.fixture
def model(tiny_model: Path) -> ModelFacts:
    return read_facts(tiny_model)


@pytest.fixture
def paired(draft_model: Path) -> ModelFacts:
    return read_facts(draft_model)


def test_the_pairing_is_taken_unless_told_otherwise(
    model: ModelFacts, paired: ModelFacts, tiny_model: Path
) -> None:
    assert choose(model, paired, None, off=False, must=True) == paired
    assert choose(model, paired, None, off=True, must=True) is None
    assert choose(model, None, None, off=False, must=True) is None
    given = choose(model, paired, tiny_model, off=False, must=True)
    assert given is not None
    assert given.path == str(tiny_model)


def test_a_draft_of_another_vocabulary_is_refused_for_the_operators_own_model(
    model: ModelFacts, draft_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = replace(model, vocab_size=32_000)
    with pytest.raises(UnfitDraft, match=r"draft cannot draft for tiny: .* 960 tokens, not 32000"):
        choose(other, None, draft_model, off=False, must=True)
    with caplog.at_level(logging.WARNING, "mesh.node"):
        assert choose(other, None, draft_model, off=False, must=False) is None
    assert "960 tokens, not 32000" in caplog.text


def test_a_draft_that_is_not_there_is_refused_by_its_path(model: ModelFacts) -> None:
    with pytest.raises(UnfitDraft, match=r"/nowhere/draft\.gguf.*--no-draft"):
        choose(model, None, Path("/nowhere/draft.gguf"), off=False, must=True)


def test_embeddings_alone_have_nothing_to_guess(
    model: ModelFacts, paired: ModelFacts, draft_model: Path
) -> None:
    embeds = replace(model, capabilities=frozenset({Capability.EMBEDDINGS}))
    assert not generates(embeds)
    assert choose(embeds, paired, None, off=False, must=True) is None
    with pytest.raises(UnfitDraft, match="embeddings alone"):
        choose(embeds, None, draft_model, off=False, must=True)


def test_the_counts_are_read_from_the_engines_metrics_or_not_told() -> None:
    told = (
        b"# HELP llamacpp:spec_decode_num_draft_tokens_total x\n"
        b"llamacpp:spec_decode_num_draft_tokens_total 128\n"
        b"llamacpp:spec_decode_num_accepted_tokens_total 112\n"
        b'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 16\n'
    )
    assert counts_in(told) == (128, 112)
    assert counts_in(b"llamacpp:tokens_predicted_total 132\n") is None
    assert counts_in(b'{"error":{"code":501}}') is None
