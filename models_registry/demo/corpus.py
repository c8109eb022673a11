"""Decides the conversations that the demo model learns: made from `text.toml`, the same for a seed.

PURE but for reading that file. Questions are asked as people ask them: paraphrased, in any case, with
and without punctuation, with a typing error now and then, after any system prompt; and many questions
are about something else, so that the model learns to say that it does not know.
"""

import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT = Path(__file__).with_name("text.toml")

TURNS_MAX = 14
UNKNOWN_SHARE = 0.3
CONCEPT_SHARE = 0.3
SYSTEM_SHARE = 0.45
PSEUDO_WORD_SHARE = 0.4
"""Share of the words in unknown questions that are invented letter by letter: the model must answer
words it never saw with "I do not know", too."""

_WHAT = (
    "What is {s}?", "What's {s}?", "What is {s}", "Explain {s}.", "Tell me about {s}.", "Define {s}.",
    "Can you explain {s}?", "Could you tell me what {s} is?", "Describe {s}.", "What are {s}?",
    "What does {s} mean?", "What do you mean by {s}?", "I do not understand {s}.", "{s}?", "{s}",
    "What exactly is {s}?", "Please explain {s} to me.", "Do you know what {s} is?", "Explain what {s} is.",
    "What is {s} in simple words?", "What is {s} in one sentence?", "I want to know what {s} is.",
)  # fmt: skip
_DOES = (
    "What does {s} do?", "What is {s} for?", "What does {s} do in a mesh?", "What is the job of {s}?",
    "What is {s} used for?", "What is the purpose of {s}?",
)  # fmt: skip
_WHY = (
    "Why do we need {s}?", "Why {s}?", "Why is there {s}?", "Why is {s} useful?", "Why do I need {s}?",
    "Why does a mesh have {s}?", "What is {s} good for?",
)  # fmt: skip
_MORE = (
    "Tell me more.", "More", "Go on.", "Tell me more about it.", "What does it do?", "And then?",
    "Can you say more?", "Explain more.", "Continue",
)  # fmt: skip
_REASON = (
    "Why?",
    "Why is that?",
    "And why?",
    "Why do we need it?",
    "Why is it useful?",
    "Why is that useful?",
)

_SYSTEM = (
    "You are a helpful assistant.", "You are a helpful assistant", "Answer briefly.", "Be concise.",
    "You are an expert.", "You are a friendly assistant. Answer in English.",
    "You are a coding assistant. Use the tools when they help.", "Always answer in JSON.",
    "Reply with one sentence.", "Be polite and helpful.",
)  # fmt: skip
_PREFIXES = (
    "Hey, ",
    "Please ",
    "Hi, ",
    "Ok, ",
    "So, ",
    "Hello, ",
    "Well, ",
    "Excuse me, ",
    "Quick question: ",
)
_SUFFIXES = (
    " please",
    " Please.",
    " Thanks!",
    " Answer briefly.",
    " In short.",
    " in one sentence",
    " then",
    " now",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One conversation."""

    system: str
    """Empty: none."""
    turns: tuple[Turn, ...]


class Writer:
    """Writes conversations; the same seed writes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        with TEXT.open("rb") as file:
            text: dict[str, Any] = tomllib.load(file)
        self._concepts: list[dict[str, Any]] = text["concept"]
        self._intents: list[dict[str, Any]] = text["intent"]
        self._weights = [intent.get("weight", 1) for intent in self._intents]
        self._unknown: dict[str, Any] = text["unknown"]
        self._words = str(self._unknown["words"]).split()

    def dialogues(self, count: int) -> Iterator[Dialogue]:
        """Yield `count` conversations of 1 to `TURNS_MAX` turns."""
        for _ in range(count):
            system = self._system() if self._random.random() < SYSTEM_SHARE else ""
            turns: list[Turn] = []
            wanted = self._random.choice((1, 1, 2, 3, 5, 8, TURNS_MAX))
            while len(turns) < wanted:
                turns += self._turns()
            yield Dialogue(system, tuple(turns))

    def _turns(self) -> list[Turn]:
        draw = self._random.random()
        if draw < UNKNOWN_SHARE:
            template = self._random.choice(self._unknown["templates"])
            question = self._vary(self._fill(template))
            return [Turn(question, self._random.choice(self._unknown["answers"]))]
        if draw < UNKNOWN_SHARE + CONCEPT_SHARE:
            return self._concept()
        intent = self._random.choices(self._intents, self._weights)[0]
        question = self._vary(self._random.choice(intent["questions"]))
        return [Turn(question, self._random.choice(intent["answers"]))]

    def _concept(self) -> list[Turn]:
        concept = self._random.choice(self._concepts)
        said = (
            concept["name"] if self._random.random() < 0.5 else self._random.choice(concept["also"])
        )
        name = concept["name"][0].upper() + concept["name"][1:]
        what = f"{name} is {concept['is']}. It {concept['does']}."
        does = f"{name} {concept['does']}."
        why = f"Because {concept['why']}."
        kind = self._random.choices((0, 1, 2), (4, 1, 1))[0]
        patterns, answer = ((_WHAT, what), (_DOES, does), (_WHY, why))[kind]
        turns = [Turn(self._vary(self._random.choice(patterns).format(s=said)), answer)]
        if self._random.random() < 0.35:
            if kind != 1 and self._random.random() < 0.5:
                turns.append(Turn(self._vary(self._random.choice(_MORE)), does))
            elif kind != 2:
                turns.append(Turn(self._vary(self._random.choice(_REASON)), why))
        return turns

    def _fill(self, template: str) -> str:
        while "{w}" in template:
            template = template.replace("{w}", self._word(), 1)
        return template.replace("{n}", str(self._random.randrange(2, 2030)))

    def _word(self) -> str:
        if self._random.random() > PSEUDO_WORD_SHARE:
            word = self._random.choice(self._words)
            return word if self._random.random() < 0.7 else word.capitalize()
        syllables = (
            self._random.choice("bcdfghjklmnprstvwz")
            + self._random.choice("aeiou")
            + self._random.choice(("", "n", "r", "s", "l"))
            for _ in range(self._random.choice((1, 2, 2, 3)))
        )
        word = "".join(syllables)
        return word.capitalize() if self._random.random() < 0.3 else word

    def _vary(self, question: str) -> str:
        """Return the question as some other person would type it."""
        draw = self._random.random
        if draw() < 0.08:
            question = self._random.choice(_PREFIXES) + question[0].lower() + question[1:]
        if draw() < 0.08:
            question = question + self._random.choice(_SUFFIXES)
        if draw() < 0.06:
            question = self._mistype(question)
        if draw() < 0.3:
            question = question.rstrip("?.!")
        if draw() < 0.3:
            question = question.lower()
        elif draw() < 0.05:
            question = question.upper()
        return question

    def _mistype(self, text: str) -> str:
        at = self._random.randrange(1, max(len(text) - 1, 2))
        return self._random.choice(
            (
                text[:at] + text[at + 1 :],
                text[:at] + text[at : at + 1] + text[at:],
                text[: at - 1] + text[at:],
            )
        )

    def _system(self) -> str:
        if self._random.random() < 0.6:
            return self._random.choice(_SYSTEM)
        return " ".join(self._word() for _ in range(self._random.randrange(3, 40)))


def words_of(dialogues: list[Dialogue], limit: int) -> list[str]:
    """Return the commonest words that follow a space, commonest first: the vocabulary's whole words."""
    import re
    from collections import Counter

    counts: Counter[str] = Counter()
    for dialogue in dialogues:
        for turn in dialogue.turns:
            counts.update(re.findall(r" ([A-Za-z]+)", turn.question))
            counts.update(re.findall(r" ([A-Za-z]+)", turn.answer))
    return [word for word, _ in counts.most_common(limit)]
