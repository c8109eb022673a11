"""Trains the demo model and writes it as GGUF: a llama of about one million parameters.

    python -m models_registry.demo.train [OUT.gguf] [--steps 1300]

Needs torch (CPU), numpy and gguf; torch is no requirement of the project: install it apart. Takes about
ten minutes on two cores. The same seed and steps give an equally good model, not the same bytes (torch
adds up in another order on another machine). The text is the project's own (`text.toml`, CC0-1.0), and so
is the model.
"""

import argparse
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models_registry.demo.corpus import Dialogue, Writer, words_of
from models_registry.demo.synthesize import add_tokenizer
from models_registry.demo.vocabulary import (
    CHAT_TEMPLATE,
    SPACE,
    TURN_END,
    TURN_START,
    Vocabulary,
    build_vocabulary,
)

SEED = 7
DIALOGUES = 12_000
WORDS_MAX = 700
THREADS = 2
FIRST_BYTE = 3
IGNORED = -100
"""What cross_entropy leaves out: only answers are learned, not questions."""


@dataclass(frozen=True)
class Shape:
    """The model's sizes and the training's."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    feed_forward: int = 352
    context: int = 2048
    window: int = 704
    batch: int = 5
    learning_rate: float = 3e-3
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


class Tokenizer:
    """Splits text as llama.cpp does here: a word's longest known beginning, then characters."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = {token: number for number, token in enumerate(vocabulary.tokens)}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text in which the turn marks are single tokens."""
        out: list[int] = []
        for part in re.split(f"({re.escape(TURN_START)}|{re.escape(TURN_END)})", text):
            if part in (TURN_START, TURN_END):
                out.append(self._ids[part])
            else:
                out += self._plain(part.replace(" ", SPACE))
        return out

    def _plain(self, text: str) -> list[int]:
        out: list[int] = []
        start = 0
        while start < len(text):
            end = start + 1
            if text[start] == SPACE:
                while end < len(text) and text[end] != SPACE and text[start : end + 1] in self._ids:
                    end += 1
            piece = text[start:end]
            out += (
                [self._ids[piece]]
                if piece in self._ids
                else [FIRST_BYTE + byte for byte in piece.encode()]
            )
            start = end
        return out


def encode_dialogue(tokenizer: Tokenizer, dialogue: Dialogue) -> tuple[list[int], list[int]]:
    """Return (tokens, targets) of a conversation; targets are IGNORED outside the answers."""
    tokens, learned = [1], [IGNORED]
    if dialogue.system:
        part = tokenizer.encode(f"{TURN_START}system\n{dialogue.system}{TURN_END}\n")
        tokens += part
        learned += [IGNORED] * len(part)
    for turn in dialogue.turns:
        asked = tokenizer.encode(
            f"{TURN_START}user\n{turn.question}{TURN_END}\n{TURN_START}assistant\n"
        )
        answer = tokenizer.encode(turn.answer + TURN_END)
        after = tokenizer.encode("\n")
        tokens += asked + answer + after
        learned += [IGNORED] * len(asked) + answer + [IGNORED] * len(after)
    return tokens, learned


class Norm(nn.Module):
    """RMS norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.epsilon = shape.norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


class Block(nn.Module):
    """One layer of a llama: grouped attention with rotary positions, then a gated feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.kv_heads * shape.head_width
        self.attn_norm, self.ffn_norm = Norm(shape), Norm(shape)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_v = nn.Linear(shape.width, kv_width, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        shape = self.shape
        batch, length, _ = x.shape
        h = self.attn_norm(x)

        def heads(projected: Tensor, count: int) -> Tensor:
            return projected.view(batch, length, count, shape.head_width).transpose(1, 2)

        query = rotate(heads(self.attn_q(h), shape.heads), cosine, sine)
        key = rotate(heads(self.attn_k(h), shape.kv_heads), cosine, sine)
        value = heads(self.attn_v(h), shape.kv_heads)
        groups = shape.heads // shape.kv_heads
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(batch, length, shape.width))
        h = self.ffn_norm(x)
        out: Tensor = x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return out


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return x with rotary positions on neighbouring pairs: llama.cpp's "norm" order."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)


class Llama(nn.Module):
    """The whole model."""

    def __init__(self, shape: Shape, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape)
        self.output = nn.Linear(shape.width, vocabulary_size, bias=False)
        self.output.weight = self.embedding.weight  # one matrix for both: half the file
        steps = torch.arange(0, shape.head_width, 2).float() / shape.head_width
        angles = torch.arange(shape.window).float()[:, None] / shape.rope_base**steps
        self.cosine, self.sine = angles.cos(), angles.sin()
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cosine, self.sine)
        out: Tensor = self.norm(x)
        return out


def train(shape: Shape, steps: int) -> tuple[Llama, Vocabulary]:
    """Return the trained model and its vocabulary, after printing how the loss fell."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    dialogues = list(Writer(SEED).dialogues(DIALOGUES))
    vocabulary = build_vocabulary(words_of(dialogues, WORDS_MAX))
    tokenizer = Tokenizer(vocabulary)
    encoded = [encode_dialogue(tokenizer, dialogue) for dialogue in dialogues]
    tokens = torch.tensor([token for row, _ in encoded for token in row])
    learned = torch.tensor([target for _, row in encoded for target in row])
    model = Llama(shape, len(vocabulary.tokens))
    count = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{count:,} parameters, {len(vocabulary.tokens)} tokens, {len(tokens):,} tokens of text",
        flush=True,
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), shape.learning_rate, (0.9, 0.95), weight_decay=0.05
    )
    began, smooth = time.monotonic(), 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(shape, step, steps)
        starts = torch.randint(len(tokens) - shape.window - 1, (shape.batch,)).tolist()
        x = torch.stack([tokens[at : at + shape.window] for at in starts])
        y = torch.stack([learned[at + 1 : at + shape.window + 1] for at in starts])
        chosen = y != IGNORED
        # Only rows that are learned go through the vocabulary's matrix: a third of the work saved.
        loss = functional.cross_entropy(model.output(model(x)[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"step {step} loss {smooth:.3f} {time.monotonic() - began:.0f} s", flush=True)
    print(f"done: loss {smooth:.3f}, {time.monotonic() - began:.0f} s", flush=True)
    return model, vocabulary


def learning_rate(shape: Shape, step: int, steps: int) -> float:
    """Return the rate of a step: 50 steps of warming up, then a cosine down to a twentieth."""
    falling = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps))
    return shape.learning_rate * min(1.0, (step + 1) / 50) * falling


def export(path: Path, shape: Shape, model: Llama, vocabulary: Vocabulary) -> None:
    """Write the model as GGUF in f16, with its tokenizer, chat template and sampling defaults."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Mesh demo")
    writer.add_description(
        "Answers simple questions about a mesh. Trained on text written for this project."
    )
    writer.add_license("cc0-1.0")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_file_type(1)
    # So small a model must not be sampled warmly; llama-server takes these unless a request says otherwise.
    writer.add_float32("general.sampling.temp", 0.2)
    writer.add_int32("general.sampling.top_k", 10)
    writer.add_float32("general.sampling.min_p", 0.1)
    add_tokenizer(writer, vocabulary)
    writer.add_chat_template(CHAT_TEMPLATE)

    def add(name: str, parameter: Tensor, dtype: type) -> None:
        writer.add_tensor(name, parameter.detach().numpy().astype(dtype))

    add("token_embd.weight", model.embedding.weight, np.float16)
    add("output_norm.weight", model.norm.weight, np.float32)
    for number, block in enumerate(model.blocks):
        for name, parameter in block.named_parameters():
            dtype = np.float32 if "norm" in name else np.float16
            add(f"blk.{number}.{name}", parameter, dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument(
        "out", type=Path, nargs="?", default=Path(__file__).with_name("mesh-demo.gguf")
    )
    parser.add_argument("--steps", type=int, default=1300)
    given = parser.parse_args()
    shape = Shape()
    model, vocabulary = train(shape, given.steps)
    export(given.out, shape, model, vocabulary)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
