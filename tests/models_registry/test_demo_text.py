"""The demo model's text, vocabulary and file: sound before any engine runs it."""

import itertools
import string
import tomllib

from models_registry.demo import demo_path
from models_registry.demo.corpus import TEXT, TURNS_MAX, Writer, words_of
from models_registry.demo.vocabulary import SPACE, Kind, build_vocabulary
from models_registry.gguf_header import read_facts
from nodes.mesh.model_facts import Capability

ALLOWED = set(string.printable) | {"ç"}


def test_the_committed_model_is_small_and_sound() -> None:
    facts = read_facts(demo_path())
    assert 1_000_000 < facts.size_bytes < 3_000_000
    assert facts.capabilities == {Capability.CHAT}
    assert facts.title == "Mesh demo"
    assert facts.context_train == 2048


def test_the_same_seed_writes_the_same_conversations_and_another_does_not() -> None:
    assert list(Writer(3).dialogues(50)) == list(Writer(3).dialogues(50))
    assert list(Writer(3).dialogues(50)) != list(Writer(4).dialogues(50))


def test_conversations_are_varied_and_bounded() -> None:
    dialogues = list(Writer(1).dialogues(400))
    assert 0.2 < sum(bool(dialogue.system) for dialogue in dialogues) / 400 < 0.7
    assert {len(dialogue.turns) for dialogue in dialogues} >= {1, 2, 3}
    assert max(len(dialogue.turns) for dialogue in dialogues) <= TURNS_MAX + 1
    questions = [turn.question for dialogue in dialogues for turn in dialogue.turns]
    assert len(set(questions)) > 0.7 * len(questions)
    assert any(question.islower() for question in questions)
    assert any(question.isupper() and len(question) > 5 for question in questions)
    assert all(question.strip() for question in questions)


def test_every_answer_is_a_proper_sentence() -> None:
    text = tomllib.loads(TEXT.read_text("utf-8"))
    answers = [answer for intent in text["intent"] for answer in intent["answers"]] + text[
        "unknown"
    ]["answers"]
    for concept in text["concept"]:
        answers += [
            f"{concept['is'].capitalize()}.",
            f"It {concept['does']}.",
            f"Because {concept['why']}.",
        ]
    for answer in answers:
        assert answer[0].isupper() or answer[0].isdigit(), answer
        assert answer[-1] in ".!?", answer
        assert set(answer) <= ALLOWED, answer
        assert "  " not in answer


def test_no_question_has_two_different_answers() -> None:
    intents = tomllib.loads(TEXT.read_text("utf-8"))["intent"]
    for first, second in itertools.combinations(intents, 2):
        same = {q.lower().rstrip("?.!") for q in first["questions"]} & {
            q.lower().rstrip("?.!") for q in second["questions"]
        }
        assert not same


def test_every_piece_of_a_word_is_reachable_from_shorter_ones() -> None:
    vocabulary = build_vocabulary(words_of(list(Writer(1).dialogues(300)), 100))
    scores = dict(zip(vocabulary.tokens, vocabulary.scores, strict=True))
    assert len(vocabulary.tokens) % 32 == 0
    assert len(scores) == len(vocabulary.tokens)
    assert vocabulary.kinds.count(Kind.BYTE) == 256
    for token in vocabulary.tokens:
        if token.startswith(SPACE) and len(token) > 2:
            assert scores[token] > scores[token[:-1]]
