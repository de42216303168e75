"""The training loop: one member (a network with its optimizer and schedule) over one stream of batches.

    for epoch:
        seed everything by (seed, epoch)
        for batch of the stream:
            the member learns from it
            now and then: look at the losses and tell of them; write the checkpoint
        evaluate; report; write the checkpoint

Because every epoch starts from its own seed and a checkpoint says where the generators are, a training that was killed goes on
from its last checkpoint, inside an epoch too, with the numbers of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workers.training.evaluating import Evaluation
from workers.training.losses import LossSums
from workers.training.member import Member
from workers.training.pace import Due, Pace, memory
from workers.training.progress import EpochReport, Progress, StepReport
from workers.training.seeding import generators_state, seed_everything, set_generators
from workers.training.stream import Stream


@dataclass(frozen=True)
class Intervals:
    """How often a training is looked at inside an epoch: a look makes the device wait, a checkpoint writes the whole state.

    A look comes after `look_steps` or `look_seconds`, whichever is first.
    """

    look_steps: int = 50
    look_seconds: float = 30.0
    checkpoint_seconds: float = 600.0


@dataclass
class Told:
    """Who is told of a training: of its epochs, and between them of its steps."""

    epoch: Callable[[EpochReport], None]
    step: Callable[[StepReport], None]


class Training:
    """A member on its way through a stream. `epoch`, counted from 0, is under way, with its losses and its pace so far."""

    def __init__(
        self, member: Member, stream: Stream, evaluation: Evaluation, progress: Progress, told: Told, intervals: Intervals
    ) -> None:
        self.member, self.stream, self.evaluation, self.progress, self.told = member, stream, evaluation, progress, told
        self.look_due = Due(intervals.look_seconds, intervals.look_steps)
        self.sign_due = Due(intervals.look_seconds)
        self.checkpoint_due = Due(intervals.checkpoint_seconds)
        self.epoch, self.losses, self.pace = 0, LossSums(), Pace()

    def run(self) -> None:
        """Trains to the end; afterwards the member is as its last step left it. Raises TrialFailure, and Left where it is to make room."""
        generators = self._go_on()
        while self.epoch < self.member.epochs:
            self._train_epoch(generators)
            self._end_epoch()
            generators = None

    def _train_epoch(self, generators: dict[str, Any] | None) -> None:
        """generators: where they were when the epoch was broken off."""
        seed_everything(self.stream.seed, self.epoch + 1)
        self.member.begin_epoch(self.epoch)
        batches = self.stream.epoch(self.epoch, skip=self.losses.count)
        if generators:
            set_generators(generators)  # now, as the stream draws when it begins
        for batch in self.pace.timed(batches):
            self.losses.add(self.member.learn(batch))
            if self.member.between_steps and (self.checkpoint_due() or self.progress.asked):
                self._save()
            if self.look_due():
                self._tell_step()
        self.member.end_epoch()
        self.pace.end_training()

    def _end_epoch(self) -> None:
        """Evaluates, notes, writes down, and only then tells: what was told is never trained again."""
        trained = {**self.losses.means(), "images_per_second": self.pace.images_per_second, "lr": self.member.lr}
        number, last = self.epoch + 1, self.epoch + 1 == self.member.epochs
        with self.member.averaged():
            due = last or number % self.evaluation.every == 0
            measured = self.evaluation(self.member.model, self.member.detector, last, self._tell_life) if due else {}
            done = EpochReport(number, self.member.epochs, {**measured, **trained, "epoch_seconds": self.pace.seconds})
            self.progress.add(done, self.member.exported)
        self.epoch, self.losses, self.pace = number, LossSums(), Pace()
        self._save()
        self.told.epoch(done)

    def _tell_life(self) -> None:
        """An evaluation is asked for signs of life too: it may take minutes."""
        if self.sign_due():
            self._tell_step()

    def _tell_step(self) -> None:
        pace = {"images_per_second": self.pace.images_per_second, "data_share": self.pace.data_share, "memory": memory()}
        metrics = {**self.losses.means(), "lr": self.member.lr, **pace}
        self.told.step(StepReport(self.epoch + 1, self.member.epochs, self.losses.count, len(self.stream), metrics))

    def _save(self) -> None:
        inside = {"losses": self.losses.state_dict(), "pace": self.pace.state_dict(), "generators": generators_state()}
        state = {"epoch": self.epoch, "inside": inside if self.losses.count else None, **self.member.state_dict()}
        self.progress.save(state)

    def _go_on(self) -> dict[str, Any] | None:
        """Takes up what an earlier process left; gives where the generators were, if it was inside an epoch."""
        state = self.progress.taken()
        if state is None:
            return None
        self.member.load_state_dict(state)
        self.epoch, inside = state["epoch"], state["inside"]
        if inside is None:
            return None
        self.losses.load_state_dict(inside["losses"], self.member.device)
        self.pace.load_state_dict(inside["pace"])
        generators: dict[str, Any] = inside["generators"]
        return generators
