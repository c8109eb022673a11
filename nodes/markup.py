"""A model's markdown as HTML that is safe to put into a page: markdown-it with raw HTML off, then nh3.

Pure. Two locks on one door: the renderer escapes what it does not know, and the allow-list keeps
nothing that could run, load or navigate by itself. Images become links: a picture in an answer must
not make the browser fetch anything.
"""

from collections.abc import Sequence
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

RENDER_MAX_CHARS = 400_000
"""Text rendered in one piece; what is longer is shown as plain text."""

_TAGS = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote"),
    *("strong", "em", "s", "code", "pre", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}, "code": {"class"}}
_SCHEMES = {"http", "https", "mailto"}


def _image_as_link(
    renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    token = tokens[index]
    source = nh3.clean_text(str(token.attrGet("src") or ""))
    return f'<a href="{source}">{nh3.clean_text(token.content or "image")}</a>'


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False, "maxNesting": 40})
    parser.enable(["table", "strikethrough"])
    parser.add_render_rule("image", _image_as_link)
    return parser


_markdown = _parser()


def _keep_attribute(tag: str, name: str, value: str) -> str | None:
    if tag == "code" and name == "class":
        language = value.removeprefix("language-")
        plain = language.replace("-", "").replace("+", "").replace("#", "")
        good = value != language and plain.isalnum() and plain.isascii() and len(language) <= 24
        return value if good else None
    return value


def render_markdown(text: str) -> str:
    """Return `text` as safe HTML: no script, style, image or foreign scheme survives."""
    if len(text) > RENDER_MAX_CHARS:
        return f"<pre>{nh3.clean_text(text)}</pre>"
    return nh3.clean(
        _markdown.render(text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_keep_attribute,
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


class GrowingMessage:
    """A message that streams in: finished blocks are rendered once, only the open end again.

    A block is finished when a blank line follows it outside of a code fence and what comes next
    starts at the left edge, so that lists and indented code keep together.
    """

    def __init__(self) -> None:
        self._done_html: list[str] = []
        self._open = ""
        self._length = 0

    def add(self, text: str) -> None:
        """Take more of the message."""
        room = max(0, RENDER_MAX_CHARS - self._length)
        self._open += text[:room]
        self._length += min(len(text), room)

    def blocks(self) -> tuple[int, list[str]]:
        """Return (index of the first block returned, newly finished blocks and the open end last)."""
        first = len(self._done_html)
        cut = _finished_until(self._open)
        if cut:
            self._done_html.append(render_markdown(self._open[:cut]))
            self._open = self._open[cut:]
        return first, [*self._done_html[first:], render_markdown(self._open)]


def _finished_until(text: str) -> int:
    """Return how many leading characters of `text` no later text can change; 0 when none."""
    fence = ""
    position = cut = 0
    blank_before = False
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        if fence:
            if stripped.startswith(fence) and not stripped.strip(fence[0]):
                fence = ""
        else:
            if blank_before and stripped[:1].isalpha() and line[:1] == stripped[:1]:
                cut = position
            if stripped.startswith(("```", "~~~")):
                fence = stripped[0] * (len(stripped) - len(stripped.lstrip(stripped[0])))
        blank_before = not stripped
        position += len(line)
    return cut
