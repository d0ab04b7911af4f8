"""One worker process: its share of the examples, through every cell, into part files of its own."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from robustexit.campaign.cells import Cell, Setting
from robustexit.campaign.spec import CampaignSpec
from robustexit.data.types import Example
from robustexit.errors import ResourceError, RobustExitError
from robustexit.permissions import Permissions
from robustexit.runs import RunFolder

if TYPE_CHECKING:
    from robustexit.victims.live import LearningVictim

THREADS: Final = 1
"""Threads of a worker. Part of what a record's floating-point values depend on, and stands in the manifest."""

FLUSH_SECONDS: Final = 5.0
FLUSH_ROWS: Final = 64


@dataclass(frozen=True)
class Share:
    """What one worker has to do.

    Attributes:
        spec: The campaign.
        run: Run folder.
        base: Folder of the campaign file.
        permissions: What the user allowed.
        cells: The plan's cells.
        index: Number of this worker.
        workers: Number of workers; this one takes the examples whose position leaves `index` on division, and of
            the cells whose victim learns, which are not divided, those whose position does.
    """

    spec: CampaignSpec
    run: Path
    base: Path
    permissions: Permissions
    cells: tuple[Cell, ...]
    index: int
    workers: int


@dataclass(frozen=True)
class Finished:
    """A message to the parent: attempts of one cell are on disk."""

    cell: Cell
    outcomes: tuple[str, ...]


@dataclass(frozen=True)
class Failed:
    """A message to the parent: the worker cannot go on.

    Attributes:
        message: What happened.
        actionable: The user can fix it (no traceback is shown).
    """

    message: str
    actionable: bool


@dataclass
class _Buffer:
    """Finished rows on their way to disk; at most a few seconds of work."""

    folder: RunFolder
    encoder: Any
    send: Any
    rows: list[dict[str, Any]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def add(self, row: dict[str, Any], cell: Cell) -> None:
        self.rows.append(row)
        if len(self.rows) >= FLUSH_ROWS or time.monotonic() - self.since > FLUSH_SECONDS:
            self.flush(cell)

    def flush(self, cell: Cell) -> None:
        from robustexit.campaign.attempts import fill_similarity

        if self.rows and _parent_lives():
            fill_similarity(self.rows, self.encoder)
            self.folder.write_part(self.rows)
            self.send(Finished(cell, tuple(row["outcome"] for row in self.rows)))
        self.rows = []
        self.since = time.monotonic()


def _parent_lives() -> bool:
    """A worker whose parent was killed stops, so that it cannot write into a resumed run."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def work(share: Share, messages: Any) -> None:
    """Entry point of a worker process; reports to the parent through the `messages` queue."""
    import torch

    torch.set_num_threads(THREADS)
    try:
        _work(share, messages.put)
    except RobustExitError as error:
        messages.put(Failed(str(error), actionable=True))
    except Exception:
        messages.put(Failed(traceback.format_exc(), actionable=False))


def _work(share: Share, send: Any) -> None:
    from robustexit.campaign.prepare import VictimBuilder, load_splits
    from robustexit.victims.live import LearningVictim

    folder = RunFolder(share.run)
    done = folder.finished()
    splits = {
        name: load_splits(name, dataset, share.base, share.permissions) for name, dataset in share.spec.datasets.items()
    }
    builder = VictimBuilder(share.spec, share.run, share.base, share.permissions)
    buffer = _Buffer(folder, sentence_encoder(), send)
    live_cells = 0
    for cell in share.cells:
        if not _parent_lives():
            return
        data = splits[cell.dataset]
        victim = builder.build(cell.victim, cell.dataset, data)
        if isinstance(victim, LearningVictim):
            live_cells += 1
            if (live_cells - 1) % share.workers != share.index:
                continue
        setting = Setting(cell.view, data.language, data.whole.field_names, share.spec.attempt_limits)
        attacker = cell.attack.attacker(victim, setting)
        attack = _CellAttack(cell, victim, attacker, data, done)
        if isinstance(victim, LearningVictim):
            _attack_in_order(attack, victim, buffer)
        else:
            _attack_share(attack, share, buffer)


@dataclass(frozen=True)
class _CellAttack:
    """One cell: how its examples become records, and which of them are on disk."""

    cell: Cell
    victim: Any
    attacker: Any
    data: Any
    done: set[tuple[Any, ...]]

    def finished(self, example: Example) -> bool:
        cell = self.cell
        recipe = self.attacker.effective_name
        key = (cell.dataset, cell.victim, recipe, cell.attack.goal_label, cell.view, cell.seed, example.example_id)
        return key in self.done

    def record(self, example: Example) -> dict[str, Any]:
        from robustexit.campaign.attempts import attempt_record

        policy = describe_policy(self.victim)
        return attempt_record(self.cell, self.victim, policy, self.attacker, example, self.data.protect)


def _attack_share(attack: _CellAttack, share: Share, buffer: _Buffer) -> None:
    """Attack this worker's examples of a cell."""
    for example in attack.data.attacked.examples[share.index :: share.workers]:
        if attack.finished(example):
            continue
        if not _parent_lives():
            return
        buffer.add(attack.record(example), attack.cell)
    buffer.flush(attack.cell)


def _attack_in_order(attack: _CellAttack, victim: LearningVictim, buffer: _Buffer) -> None:
    """Attack a learning victim's examples one after another, in its seeded order.

    What it learned from one example bears on the next, so nothing is written before the cell is whole: an
    interrupted cell starts again from the beginning and comes to the same records.
    """
    from robustexit.exits.stream import order_of

    examples = attack.data.attacked.examples
    if all(attack.finished(example) for example in examples):
        return
    victim.restart()
    for position in order_of(victim.order_seed, len(examples)).tolist():
        if not _parent_lives():
            buffer.rows.clear()
            return
        row = attack.record(examples[position])
        if not attack.finished(examples[position]):
            buffer.rows.append(row)
    buffer.flush(attack.cell)


def describe_policy(victim: Any) -> str:
    """The policy as it stands in records; a user's victim may have none to show."""
    policy = getattr(victim, "policy", None)
    return policy.describe() if policy is not None else "custom"


def sentence_encoder() -> Any:
    """Return the encoder for the `similarity` column, or None where the packaged one is not installed."""
    from robustexit.similarity import SentenceEncoder

    try:
        return SentenceEncoder()
    except ResourceError:
        return None
