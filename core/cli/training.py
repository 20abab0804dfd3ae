"""The demo's workload, run on the machine: a small real training. It needs numpy and nothing else.

A network with one hidden layer learns to continue sentences of a made-up language, letter by letter. It begins again
with a new language when it has learnt one, and after a kill it goes on at its last checkpoint. It holds its share of
one core, so that a laptop stays cool.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LETTERS = " abcdefghijklmnopqrstuvwxyz.\n"
CONTEXT = 16  # letters that are looked at
EMBED, HIDDEN = 24, 512
BATCH = 128
STEPS = 30_000  # of one language
REPORT_EVERY, SAVE_EVERY, KEPT = 20, 1000, 3
CPU_SHARE = 0.3  # of one core
LEARNING_RATE, BETA1, BETA2, EPSILON = 3e-5, 0.9, 0.999, 1e-8  # Adam, Kingma & Ba 2015, at a calm rate

Array = NDArray[np.float32]
Weights = dict[str, Array]


def language(seed: int, letters: int = 400_000) -> NDArray[np.int64]:
    """Text of a language whose words follow each other with a pattern; the same seed, the same text."""
    rng = np.random.default_rng(seed)
    vowels, consonants = "aeiou", "bcdfghklmnprstvz"

    def word() -> str:
        pairs = rng.integers(1, 4)
        return "".join(str(rng.choice(list(consonants))) + str(rng.choice(list(vowels))) for _ in range(pairs))

    words = [word() for _ in range(150)]
    follows = [rng.integers(0, len(words), 3) for _ in words]
    text: list[str] = []
    at, length = 0, 0
    while length < letters:
        at = int(rng.choice(follows[at]))
        piece = words[at] + (".\n" if rng.random() < 0.1 else " ")
        text.append(piece)
        length += len(piece)
    index = {letter: i for i, letter in enumerate(LETTERS)}
    return np.array([index[c] for c in "".join(text)], dtype=np.int64)


def fresh(seed: int) -> Weights:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return np.asarray(rng.standard_normal(shape) / np.sqrt(shape[0]), dtype=np.float32)

    return {
        "embed": normal(len(LETTERS), EMBED),
        "w1": normal(CONTEXT * EMBED, HIDDEN),
        "b1": np.zeros(HIDDEN, np.float32),
        "w2": normal(HIDDEN, len(LETTERS)),
        "b2": np.zeros(len(LETTERS), np.float32),
    }


def gradients(weights: Weights, x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[float, Weights]:
    """Mean cross-entropy in nats, and its gradients. `x` (B, CONTEXT), `y` (B)."""
    rows = np.arange(len(y))
    entered = weights["embed"][x].reshape(len(x), -1)  # (B, CONTEXT * EMBED)
    hidden = np.tanh(entered @ weights["w1"] + weights["b1"])  # (B, HIDDEN)
    scores = hidden @ weights["w2"] + weights["b2"]  # (B, letters)
    scores -= scores.max(axis=1, keepdims=True)
    chances = np.exp(scores)
    chances /= chances.sum(axis=1, keepdims=True)
    loss = float(-np.log(chances[rows, y] + 1e-9).mean())
    chances[rows, y] -= 1
    chances /= len(y)
    back = (chances @ weights["w2"].T) * (1 - hidden**2)
    embed = np.zeros_like(weights["embed"])
    np.add.at(embed, x.reshape(-1), (back @ weights["w1"].T).reshape(-1, EMBED))
    return loss, {
        "embed": embed,
        "w1": entered.T @ back,
        "b1": back.sum(axis=0),
        "w2": hidden.T @ chances,
        "b2": chances.sum(axis=0),
    }


class Training:
    """One language after the other. `folder` holds what is left behind: logs and checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.checkpoints = folder / "checkpoints"
        self.progress = folder / "logs" / "progress.jsonl"
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.progress.parent.mkdir(parents=True, exist_ok=True)
        self.seed, self.step = 1, 0
        self.weights = fresh(self.seed)
        self.first = {k: np.zeros_like(v) for k, v in self.weights.items()}
        self.second = {k: np.zeros_like(v) for k, v in self.weights.items()}
        self._resume()
        self.text = language(self.seed)

    def run_step(self) -> float:
        """One step of Adam; returns the loss in nats per letter."""
        rng = np.random.default_rng((self.seed, self.step))  # the same step draws the same batch, also after a kill
        starts = rng.integers(0, len(self.text) - CONTEXT - 1, BATCH)
        x = self.text[starts[:, None] + np.arange(CONTEXT)]
        loss, found = gradients(self.weights, x, self.text[starts + CONTEXT])
        self.step += 1
        for name, gradient in found.items():
            self.first[name] = BETA1 * self.first[name] + (1 - BETA1) * gradient
            self.second[name] = BETA2 * self.second[name] + (1 - BETA2) * gradient**2
            mean = self.first[name] / (1 - BETA1**self.step)
            spread = np.sqrt(self.second[name] / (1 - BETA2**self.step)) + EPSILON
            self.weights[name] = (self.weights[name] - LEARNING_RATE * mean / spread).astype(np.float32)
        return loss

    def next_language(self) -> None:
        self.seed, self.step = self.seed + 1, 0
        self.weights = fresh(self.seed)
        self.first = {k: np.zeros_like(v) for k, v in self.weights.items()}
        self.second = {k: np.zeros_like(v) for k, v in self.weights.items()}
        self.text = language(self.seed)

    def say(self, loss: float, letters_per_s: float) -> None:
        with self.progress.open("a") as file:
            file.write(json.dumps({"step": self.step, "loss": round(loss, 4), "steps": STEPS}) + "\n")
        stamp = time.strftime("%H:%M:%S")
        line = f"{stamp} language {self.seed} step {self.step}/{STEPS} loss {loss:.4f} {letters_per_s:.0f} letters/s"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def save(self) -> None:
        """Atomic: a checkpoint is there whole or not at all. The last three are kept."""
        target = self.checkpoints / f"language-{self.seed:03}-step-{self.step:06}.npz"
        temporary = target.with_suffix(".part")
        state = {f"{part}.{k}": v for part in ("weights", "first", "second") for k, v in getattr(self, part).items()}
        with temporary.open("wb") as file:
            np.savez(file, seed=np.int64(self.seed), step=np.int64(self.step), **state)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        for old in sorted(self.checkpoints.glob("*.npz"))[:-KEPT]:
            old.unlink()

    def _resume(self) -> None:
        saved = sorted(self.checkpoints.glob("*.npz"))
        if not saved:
            return
        with np.load(saved[-1], allow_pickle=False) as state:
            parts: dict[str, Any] = {"weights": {}, "first": {}, "second": {}}
            for name in state.files:
                part, _, weight = name.partition(".")
                if weight:
                    parts[part][weight] = state[name]
            self.seed, self.step = int(state["seed"]), int(state["step"])
        self.weights, self.first, self.second = parts["weights"], parts["first"], parts["second"]
        sys.stdout.write(f"going on at step {self.step} of language {self.seed}\n")


def main() -> None:
    os.nice(10)
    training = Training(Path(os.environ.get("WORKSPACE", ".")))
    recent, began = 0.0, time.monotonic()
    while True:
        worked = time.process_time()
        loss = training.run_step()
        recent = loss if not recent else 0.97 * recent + 0.03 * loss
        if training.step % REPORT_EVERY == 0 or training.step == 1:
            now = time.monotonic()
            count = BATCH * (REPORT_EVERY if training.step > 1 else 1)
            training.say(recent, count / max(now - began, 1e-6))
            began = now
        if training.step % SAVE_EVERY == 0:
            training.save()
        if training.step >= STEPS:
            training.next_language()
            recent = 0.0
        time.sleep((time.process_time() - worked) * (1 / CPU_SHARE - 1))


if __name__ == "__main__":
    main()
