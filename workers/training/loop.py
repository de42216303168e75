"""The training loop: members (networks with their optimizers and schedules) over one stream of batches.

    for epoch:
        seed everything by (seed, epoch)
        for batch of the stream:
            every member learns from it
            now and then: looks at its losses and tells of them; writes its checkpoint
        every member is evaluated, reports, writes its checkpoint

One member is the usual; several of one teacher are a group, which has its batches and its teacher's forward pass in common and nothing
else: each has random numbers of its own, and ends with what it ends with alone. They need not be equally far: who is behind goes first.

Several processes may run it together for one member, each on its share of every batch (`workers.training.together`): the first one
decides, reports and writes. Because every epoch starts from its own seed and a checkpoint says where the generators are, a training that
was killed goes on from its last checkpoint, inside an epoch too, with the numbers of one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from studies.trial import TrialFailure
from workers.detectors.memory import memory_of, remember
from workers.failures import failures_named
from workers.training.evaluating import Evaluation
from workers.training.losses import LossSums
from workers.training.member import Member
from workers.training.pace import Due, Pace, memory
from workers.training.preparing import Batch, kind_of
from workers.training.profile import Profile
from workers.training.progress import EpochReport, Left, Progress, StepReport
from workers.training.result import TrialResult
from workers.training.seeding import generators_state, seed_everything, set_generators
from workers.training.stream import Stream
from workers.training.together import Together

Outcome = TrialResult | TrialFailure | Left  # what a training comes to


@dataclass(frozen=True)
class Intervals:
    """How often a training is looked at inside an epoch: a look makes the device wait, a checkpoint writes the whole state.

    A look comes after `look_steps` or `look_seconds`, whichever is first.
    """

    look_steps: int = 50
    look_seconds: float = 30.0
    checkpoint_seconds: float = 600.0


@dataclass(eq=False)
class Told:
    """Who is told of a training: of its epochs, between them of its steps, and of its end."""

    epoch: Callable[[EpochReport], None]
    step: Callable[[StepReport], None]
    end: Callable[[Outcome], None]


class Training:
    """A member on its way through a stream. `epoch`, counted from 0, is under way, with its losses and its pace so far.

    batches: of an epoch. written: writes a trial's result, of its plain detector's state. generators: where its random numbers come
    from next; None: from where its epoch begins.
    """

    def __init__(
        self,
        member: Member,
        batches: int,
        evaluation: Evaluation,
        progress: Progress,
        told: Told,
        written: Callable[[dict[str, Tensor]], TrialResult],
        intervals: Intervals,
        together: Together,
    ) -> None:
        self.together, self.batches, self.written = together, batches, written
        self.member, self.evaluation, self.progress, self.told = member, evaluation, progress, told
        self.kind = kind_of(member.model.data_preprocessor)
        self.look_due = Due(intervals.look_seconds, intervals.look_steps)
        self.sign_due = Due(intervals.look_seconds)
        self.checkpoint_due = Due(intervals.checkpoint_seconds)
        self.epoch, self.losses, self.pace = 0, LossSums(), Pace()
        self.generators: dict[str, Any] | None = None
        self._go_on()

    @property
    def done(self) -> int:
        """Batches of the epoch under way that are behind it."""
        return self.losses.count

    @property
    def over(self) -> bool:
        return self.epoch == self.member.epochs

    def begin_epoch(self, generators: dict[str, Any]) -> None:
        """generators: where they are at its beginning, as the stream left them."""
        self.member.begin_epoch(self.epoch)
        self.generators = self.generators or generators

    def learn(self, data: dict[str, Any]) -> None:
        """Trains on a batch, looks at its losses and writes its checkpoint when that is due. Raises TrialFailure, and Left where it is
        to make room."""
        self.losses.add(self.member.learn(data))
        save = self.member.between_steps and (self.checkpoint_due() or self.progress.asked)
        save, look = self.together.agreed(save, self.look_due())
        if save:
            self._save()
        if look:
            self._tell_step(self.losses.means(self.together))

    def end_epoch(self) -> None:
        """Evaluates, notes, writes down, and only then tells: what was told is never trained again. Raises likewise."""
        self.member.end_epoch()
        self.pace.end_training()
        means = self.losses.means(self.together)
        trained = {**means, "images_per_second": self._images_per_second, "lr": self.member.lr}
        number, last = self.epoch + 1, self.epoch + 1 == self.member.epochs
        with self.member.averaged():
            due = last or number % self.evaluation.every == 0
            measured = self.evaluation(self.member.model, self.member.detector, last, lambda: self._tell_life(means)) if due else {}
            done = EpochReport(number, self.member.epochs, {**measured, **trained, "epoch_seconds": self.pace.seconds})
            self.progress.add(done, self.member.exported)
        self.epoch, self.losses, self.pace, self.generators = number, LossSums(), Pace(), None
        with self.pace.running():
            self._save()
        if self.together.first:
            self.told.epoch(done)

    def finish(self) -> TrialResult:
        """Writes its result; afterwards the member is as its last step left it."""
        with self.member.averaged():  # what is exported is what was evaluated
            return self.written(self.member.exported())

    @property
    def _images_per_second(self) -> float:
        return self.pace.images_per_second * self.together.world

    def _tell_life(self, means: dict[str, float]) -> None:
        """An evaluation is asked for signs of life too: it may take minutes."""
        if self.sign_due():
            self._tell_step(means)

    def _tell_step(self, means: dict[str, float]) -> None:
        if not self.together.first:
            return
        pace = {"images_per_second": self._images_per_second, "data_share": self.pace.data_share, "memory": memory()}
        metrics = {**means, "lr": self.member.lr, **pace}
        self.told.step(StepReport(self.epoch + 1, self.member.epochs, self.done, self.batches, metrics))

    def _save(self) -> None:
        inside = {"losses": self.losses.state_dict(), "pace": self.pace.state_dict(), "generators": generators_state()}
        own = {"inside": inside if self.done else None, "memory": memory_of(self.member.detector)}
        everybody, leaves = self.together.gathered(own), False
        if self.together.first:
            leaves = self.progress.save({"epoch": self.epoch, "processes": everybody, **self.member.state_dict()})
        if self.together.agreed(leaves)[0]:
            raise Left

    def _go_on(self) -> None:
        """Takes up what an earlier process left."""
        state = self.progress.taken()
        if state is None:
            return
        self.member.load_state_dict(state)
        own = state["processes"][self.together.rank]
        remember(self.member.detector, own["memory"])
        self.epoch, inside = state["epoch"], own["inside"]
        if inside is None:
            return
        self.losses.load_state_dict(inside["losses"], self.member.device)
        self.pace.load_state_dict(inside["pace"])
        self.generators = inside["generators"]


class Group:
    """Trainings over one stream, in this process. told: of every trial. images: of a forward pass."""

    def __init__(self, told: Sequence[Told], images: int, together: Together, profile: Profile | None = None) -> None:
        self.images, self.together, self.profile = images, together, profile
        self.open = list(told)  # those who have not been told an end
        self.trainings: list[Training] = []  # at work

    def add(self, training: Training) -> None:
        self.trainings.append(training)

    def end(self, told: Told, outcome: Outcome) -> None:
        """A trial has come to its end."""
        self.open.remove(told)
        self.trainings = [training for training in self.trainings if training.told is not told]
        told.end(outcome)

    @contextmanager
    def ending(self, *told: Told) -> Iterator[None]:
        """Inside, something is done for these trials: what it fails by, or that they make room, is the end of those, and of no others."""
        try:
            with failures_named(self.images):
                yield
        except (TrialFailure, Left) as end:
            for each in told:
                if each in self.open:
                    self.end(each, end)
            if self.open:  # the others need the memory that a traceback holds on to
                end.__traceback__ = end.__cause__ = None

    def run(self, stream: Stream) -> None:
        """Trains all to their ends, each of which is told. Raises TrialFailure for what concerns them all, as an unreadable image."""
        while self.trainings:
            epoch = min(training.epoch for training in self.trainings)
            for training in self._at(epoch):
                if training.over:
                    self._finish(training)
            if self._at(epoch):
                self._train_epoch(stream, epoch)

    def _at(self, epoch: int) -> list[Training]:
        """Those that are in an epoch; others are ahead of it."""
        return [training for training in self.trainings if training.epoch == epoch]

    def _train_epoch(self, stream: Stream, epoch: int) -> None:
        start = min(training.done for training in self._at(epoch))
        seed_everything(stream.seed, epoch + 1, self.together.rank)
        batches = stream.epoch(epoch, skip=start)
        generators = generators_state()  # now, as the stream draws when it begins
        for training in self._at(epoch):
            training.begin_epoch(generators)
        asked = time.perf_counter()
        for number, raw in enumerate(self.profile.over(batches) if self.profile else batches, start):
            waited = time.perf_counter() - asked
            self._step(raw, [training for training in self._at(epoch) if training.done == number], number, waited)
            asked = time.perf_counter()
        for training in self._at(epoch):
            with self._turn(training):
                training.end_epoch()

    def _step(self, raw: dict[str, Any], due: list[Training], number: int, waited: float) -> None:
        """Everybody's step in turn. Whoever is first finds nothing prepared and the teacher not asked yet; so that is another each time."""
        batch, first = Batch(raw), number % max(1, len(due))
        for training in due[first:] + due[:first]:
            training.pace.given(len(raw["inputs"]), waited / len(due))
            with self._turn(training):
                training.learn(batch.of(training.member, training.kind) if len(due) > 1 else training.member.prepare(raw))
        for training in due:
            training.member.forget_teacher()

    @contextmanager
    def _turn(self, training: Training) -> Iterator[None]:
        """Inside, a training is at work, on its own time and with its own random numbers."""
        with self.ending(training.told), training.pace.running():
            if training.generators:
                set_generators(training.generators)
            yield
            training.generators = generators_state() if training.done else None

    def _finish(self, training: Training) -> None:
        with self.ending(training.told):
            self.end(training.told, training.finish())
