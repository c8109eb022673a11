"""What an engine's end means, in a sentence: its own words where they help."""

import pytest

from models_registry.supervision.exit_reasons import (
    MAX_QUOTE_CHARS,
    bare,
    exit_reason,
    port_was_busy,
)

# Recorded from llama.cpp 0.7.0.
BUSY = [
    "0.00.014.885 E srv         start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 39019"
]
MEMORY = ["0.00.269.376 E llama_init_from_model: failed to initialize the context: std::bad_alloc"]
BROKEN = [
    "0.00.016.237 E llama_model_load: error loading model: tensor 'blk.1.ffn_gate.weight' data is not within"
    " the file bounds, model is corrupted or incomplete",
    "0.00.016.778 E srv  llama_server: exiting due to model loading error",
]
LOST = ["./src/ggml-rpc/ggml-rpc.cpp:650: Failed to connect to 127.0.0.1:1"]


@pytest.mark.parametrize(
    ("returncode", "lines", "words"),
    [
        (1, BUSY, "could not open its port"),
        (1, MEMORY, "ran out of memory (llama_init_from_model"),
        (1, BROKEN, "could not load the model: llama_model_load: error loading model: tensor"),
        (1, ["error: invalid argument: --nonsense"], "does not know the flag --nonsense"),
        (-6, LOST, "lost its split"),
        (-6, [], "an rpc-server is gone"),
        (
            -6,
            ["terminate called after throwing an instance"],
            "aborted (signal 6): terminate called",
        ),
        (-9, [], "for lack of memory"),
        (-11, [], "SIGSEGV"),
        (-4, [], "this machine's processor"),
        (-63, [], "signal 63"),
        (0, [], "ended by itself, without an error"),
        (127, ["cannot run /x: No such file or directory"], "could not be started: cannot run /x"),
        (5, ["0.00.000.001 I something odd"], "ended with code 5: something odd"),
        (5, [], "ended with code 5"),
        (
            1,
            [
                'error while handling argument "--device": invalid device: CUDA9',
                "to show complete usage, run with -h",
            ],
            'ended with code 1: error while handling argument "--device": invalid device: CUDA9',
        ),
    ],
)
def test_end_is_told_in_a_sentence(returncode: int, lines: list[str], words: str) -> None:
    reason = exit_reason("llama-server for tiny", returncode, lines)
    assert words in reason and reason.startswith("llama-server for tiny ")


def test_out_of_memory_is_told_before_the_broken_model_it_looks_like() -> None:
    reason = exit_reason("x", 1, [*MEMORY, *BROKEN])
    assert "memory" in reason and "--ctx-size" in reason


def test_a_split_that_is_fine_is_not_blamed_for_a_crash() -> None:
    assert "split" not in exit_reason("x", -11, LOST)


def test_quotes_are_bounded_and_without_the_time_stamp() -> None:
    assert bare("0.00.000.001 E " + "x" * 1000) == "x" * MAX_QUOTE_CHARS


def test_only_a_busy_port_is_worth_another() -> None:
    assert port_was_busy(BUSY) and not port_was_busy(MEMORY)
