"""A model's markdown becomes HTML that cannot run, load or navigate by itself."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.markup import GrowingMessage, render_markdown

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><animate onbegin=alert(1)></svg>",
    "[x](javascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "![x](https://evil.example/pixel.png)",
    '![x" onerror="alert(1)](javascript:alert(1))',
    '```x" onclick="alert(1)\n<b>\n```',
    '<a href="javascript:alert(1)">x</a>',
    "<style>*{display:none}</style>",
    "<iframe src=//evil.example></iframe>",
    "| a |\n|---|\n| <img src=x onerror=alert(1)> |",
]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_renders_inert(attack: str) -> None:
    parser = _Tags()
    parser.feed(render_markdown(attack))
    for tag, attributes in parser.found:
        assert tag not in ("script", "img", "svg", "animate", "style", "iframe")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert (attributes.get("href") or "https:").startswith(("https:", "http:", "mailto:"))


def test_links_open_apart_and_tell_nobody() -> None:
    html = render_markdown("[x](https://example.org/)")
    assert 'rel="noopener noreferrer"' in html
    assert 'target="_blank"' in html


def test_code_keeps_its_language_and_its_characters() -> None:
    assert render_markdown("```python\na < b\n```") == (
        '<pre><code class="language-python">a &lt; b\n</code></pre>\n'
    )


def test_finished_blocks_are_rendered_once() -> None:
    message = GrowingMessage()
    message.add("First paragraph.\n\nSecond")
    assert message.blocks() == (0, ["<p>First paragraph.</p>\n", "<p>Second</p>\n"])
    message.add(" grows")
    assert message.blocks() == (1, ["<p>Second grows</p>\n"])


def test_a_blank_line_in_a_code_fence_does_not_end_the_block() -> None:
    message = GrowingMessage()
    message.add("```\na\n\nb\n```\n\nafter")
    assert message.blocks()[1] == ["<pre><code>a\n\nb\n</code></pre>\n", "<p>after</p>\n"]


@given(st.lists(st.sampled_from(["a", "word ", "\n", "\n\n", "```", "```\n", "- x\n", "  y\n"])))
def test_a_message_in_pieces_says_what_it_says_whole(pieces: list[str]) -> None:
    message = GrowingMessage()
    html: list[str] = []
    for piece in pieces:
        message.add(piece)
        first, blocks = message.blocks()
        html[first:] = blocks
    assert "".join(html).count("<pre>") <= "".join(pieces).count("```")
    assert message.blocks()[0] == max(0, len(html) - 1)
