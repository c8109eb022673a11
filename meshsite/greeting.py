"""The start-up lines: what is served where, and how to use it. Pure text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the lines tell."""

    version: str
    node_name: str
    api_url: str
    console_url: str | None
    operator_url: str | None
    """One-time link that opens the operator's session; None without a console."""
    models: tuple[str, ...]
    token: str | None
    needs_key: bool


def lines(facts: Greeting) -> list[str]:
    """Return the lines, in order, without line ends."""
    models = ", ".join(facts.models) or "the built-in demo model"
    key = "YOUR-KEY" if facts.needs_key else "none"
    shown = [
        "",
        f"  mesh-llm {facts.version} on {facts.node_name}, serving {models}",
        "",
        f"  API      {facts.api_url}/v1",
        f"  Console  {facts.console_url or 'off (--no-console)'}",
    ]
    if facts.operator_url:
        shown.append(f"  Operator {facts.operator_url}   (opens once; lets you act in the console)")
    if facts.token:
        shown.extend(
            [
                "",
                "  Invite   (for joining, which the next version brings; treat it like a password)",
                f"  {facts.token}",
            ]
        )
    shown.extend(_usage(facts.api_url, key))
    return shown


def _usage(api_url: str, key: str) -> list[str]:
    bearer = f' -H "Authorization: Bearer {key}"' if key != "none" else ""
    return [
        "",
        "  Use it",
        f'    curl {api_url}/v1/chat/completions{bearer} -H "Content-Type: application/json" \\',
        '      -d \'{"model": "auto", "messages": [{"role": "user", "content": "What is a mesh?"}]}\'',
        f'    OpenAI SDK    OpenAI(base_url="{api_url}/v1", api_key="{key}")',
        f"    Most agents   OPENAI_BASE_URL={api_url}/v1 OPENAI_API_KEY={key}",
        f"    Claude Code   ANTHROPIC_BASE_URL={api_url} ANTHROPIC_API_KEY={key}",
        "",
    ]
