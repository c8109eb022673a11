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
    alone_because: str = ""
    """Why nobody of the mesh that a token names was reached; empty: somebody was, or there is none."""
    client: bool = False
    """True: it uses a mesh and is no part of it."""
    joined: bool = False
    """True: it came into a mesh by a token, or was in one before."""


def lines(facts: Greeting) -> list[str]:
    """Return the lines, in order, without line ends."""
    models = f"serving {', '.join(facts.models) or _idle(facts)}"
    if facts.client:
        models = "a client: it serves nothing and answers by the machines of its mesh"
    key = "YOUR-KEY" if facts.needs_key else "none"
    shown = [
        "",
        f"  mesh-llm {facts.version} on {facts.node_name}, {models}",
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
                "  Add a machine: run this there (whoever has the token may join for 7 days)",
                f"    mesh-llm --join {facts.token}",
            ]
        )
    if facts.alone_because:
        shown.extend(["", f"  Alone for now. {facts.alone_because} It keeps trying."])
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


def _idle(facts: Greeting) -> str:
    return "no model of its own" if facts.joined else "the built-in demo model"
