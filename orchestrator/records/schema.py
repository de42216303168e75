"""The tables of the database, which is the truth about every study. Times are milliseconds since 1970 (UTC).

Rows handed out by the store are detached copies: read them, and change state only through the store.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Enum, ForeignKey, Index, Integer, MetaData, String, Table, Text, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from orchestrator.machine import StudyState, TrialState
from orchestrator.schedules.due import Misfire, Outcome, Overlap

MEASUREMENT = "measurement"  # the role of a trial that trains nothing
Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER


def state_of(states: type[StrEnum]) -> Enum:
    """A column that holds one of `states` by its value."""
    return Enum(states, native_enum=False, length=16, values_callable=lambda members: [member.value for member in members])


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON(none_as_null=True), list[Any]: JSON(none_as_null=True), int: BigInteger}


def table_of(rows: type[Base]) -> Table:
    """The table itself, for rows of which no objects are to be made."""
    table = rows.__table__
    assert isinstance(table, Table)
    return table


class Study(Base):
    """A submitted study. `spec` is its StudySpec as JSON, `presentation` how its table is laid out (studies.presentation.Presentation)."""

    __tablename__ = "study"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    owner: Mapped[str | None] = mapped_column(String(200))  # who submitted it; None: nobody is known
    spec: Mapped[dict[str, Any]]
    idempotency_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    state: Mapped[StudyState] = mapped_column(state_of(StudyState), index=True)
    reason: Mapped[str | None] = mapped_column(Text)  # why it failed, one sentence
    stalls: Mapped[int] = mapped_column(default=0)  # attempts lost in a row without a new epoch
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")  # how many of its trials are in each state
    searching: Mapped[bool] = mapped_column(default=False, server_default=false())  # its search may add trials yet
    created: Mapped[int]
    started: Mapped[int | None]  # first attempt's driver came up
    finished: Mapped[int | None]  # entered a final state; None again after a resume
    priority: Mapped[int] = mapped_column(default=0, server_default="0")  # in the queue; the higher the sooner
    paused: Mapped[bool] = mapped_column(default=False, server_default=false())  # is granted no devices
    overtaken: Mapped[int | None]  # since when it has had no devices while studies of higher priority had
    presentation: Mapped[dict[str, Any]] = mapped_column(deferred=True, server_default="{}")  # large, and read for the table alone
    experiment: Mapped[str | None] = mapped_column(String(64))  # MLflow experiment id
    run: Mapped[str | None] = mapped_column(String(64))  # MLflow parent run id


class Arm(Base):
    """What trials that differ in the seed alone train: an arm (with its sampled values) or a teacher."""

    __tablename__ = "arm"
    __table_args__ = (UniqueConstraint("study_id", "name"),)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]  # teachers first
    name: Mapped[str] = mapped_column(String())
    title: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(String(16))  # teacher, baseline or distilled
    detail: Mapped[dict[str, Any]]  # network, schedule, distillers, teacher (arm name or null), weights, values


class Trial(Base):
    """One job of a study: a training, or a measurement of finished ones. `name` is unique in the study ("fitnet/seed-0")."""

    __tablename__ = "trial"
    __table_args__ = (
        UniqueConstraint("study_id", "name"),
        Index(None, "study_id", "position"),
        Index(None, "study_id", "state", "position", "role"),  # what is ready next, and how many are in which state
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    arm_id: Mapped[int] = mapped_column(ForeignKey("arm.id", ondelete="CASCADE"))
    position: Mapped[int]  # order in the study, each behind those that it needs
    name: Mapped[str] = mapped_column(String())
    title: Mapped[str] = mapped_column(Text)  # "FitNet · seed 0"
    role: Mapped[str] = mapped_column(String(16))  # teacher, baseline, distilled or measurement
    seed: Mapped[int]
    teacher: Mapped[str | None] = mapped_column(String())  # name of the trial that teaches this one, or that it is measured beside
    measurement: Mapped[dict[str, Any] | None]  # of a measurement: kind, detector (name of the trial it measures), options, distillers
    state: Mapped[TrialState] = mapped_column(state_of(TrialState))
    reason: Mapped[str | None] = mapped_column(Text)  # why it failed, one sentence
    failure: Mapped[str | None] = mapped_column(String(16))  # class of failure: nan, oom, data, user, infra
    losses: Mapped[int] = mapped_column(default=0)  # times its process was lost (infra) since the last resume
    lacking: Mapped[int] = mapped_column(default=0, server_default="0")  # how many of the trials that it needs have no result yet
    key: Mapped[str | None] = mapped_column(String(64), index=True)  # known once the trials that it needs are finished
    spec: Mapped[dict[str, Any] | None]  # the resolved TrialSpec or MeasurementSpec as JSON, known with the key
    folder: Mapped[str | None] = mapped_column(String(255))  # its folder's name under $RETORT_HOME/trials
    fence: Mapped[int | None]  # id of the lease that it was trained under last
    dataset_digest: Mapped[str | None] = mapped_column(String(64))
    source_id: Mapped[int | None] = mapped_column(
        ForeignKey("trial.id", ondelete="SET NULL")
    )  # of a cached trial: where its results are from
    epoch: Mapped[int] = mapped_column(default=0)  # last recorded epoch, 1-based
    epochs: Mapped[int | None]  # of how many
    latest: Mapped[dict[str, Any] | None]  # metrics of the last recorded epoch
    sign: Mapped[dict[str, Any] | None]  # the last sign of life inside an epoch, while it runs (records.signs)
    metrics: Mapped[dict[str, Any] | None]  # final metrics
    checkpoint: Mapped[str | None] = mapped_column(Text)  # exported detector; of a measurement its document
    checkpoint_sha256: Mapped[str | None] = mapped_column(String(64))
    best_checkpoint: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float | None]  # time in training, over all its executions
    environment: Mapped[dict[str, Any] | None]  # git sha, library versions, device
    started: Mapped[int | None]
    finished: Mapped[int | None] = mapped_column(index=True)
    run: Mapped[str | None] = mapped_column(String(64))  # MLflow run id


class Need(Base):
    """A trial cannot start before another one has its results: its teacher, or what it measures."""

    __tablename__ = "need"

    needed_id: Mapped[int] = mapped_column(ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True, index=True)


class Suggestion(Base):
    """A combination of values that a search tries for an arm. Drawings and ends of a study are numbered through by `asked` and `told`."""

    __tablename__ = "suggestion"

    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True)
    arm: Mapped[str] = mapped_column(String(64), primary_key=True)  # as in the spec
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # from 1
    row: Mapped[str] = mapped_column(String())  # name of its row in `arm`, where it has trials of its own
    values: Mapped[dict[str, Any]]  # by path
    trials: Mapped[list[Any]]  # names of its trainings, one a seed
    asked: Mapped[int]
    told: Mapped[int | None]  # None while it has no end
    outcome: Mapped[str | None] = mapped_column(String(16))  # done, stopped or failed
    goals: Mapped[list[Any] | None]  # its value in each objective, where it is done
    epochs: Mapped[dict[str, Any] | None]  # where it was stopped: the first objective at each epoch


class Attempt(Base):
    """One execution of a study's driver as a Ray Job."""

    __tablename__ = "attempt"
    __table_args__ = (Index(None, "ended"),)

    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)  # 1-based
    submission: Mapped[str] = mapped_column(String(64))  # Ray's submission id
    created: Mapped[int]
    ended: Mapped[int | None]
    outcome: Mapped[str | None] = mapped_column(Text)  # done, stopped, or how it was lost


class Point(Base):
    """A metric of a trial at the end of an epoch."""

    __tablename__ = "point"

    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)  # 1-based
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[float]
    time: Mapped[int]


class Event(Base):
    """Something that happened to a study, in order of id; what `watch` and the event stream show."""

    __tablename__ = "event"
    __table_args__ = (Index(None, "study_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))  # study, trial, trials, epoch, step, note or regression
    data: Mapped[dict[str, Any]]
    time: Mapped[int]


class Outbox(Base):
    """What MLflow has yet to be told, in order of id; a row goes when the relay has sent it."""

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "trouble", "study_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey("trial.id", ondelete="CASCADE"))  # None: about the study itself
    epoch: Mapped[int | None]  # the points of this epoch; None: the run as a whole has changed
    time: Mapped[int]
    tries: Mapped[int] = mapped_column(default=0, server_default="0")  # how often sending it failed for a reason of its own
    trouble: Mapped[str | None] = mapped_column(String(300))  # why it was set aside; None: it is yet to be sent


class Dataset(Base):
    """A dataset that was made on this Retort, by the digest of its content."""

    __tablename__ = "dataset"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    time: Mapped[int]


class Lease(Base):
    """The right to train in a trial folder, so that two studies never train the same trial twice. Its id is its fencing number: every
    lease has a greater one than all before it."""

    __tablename__ = "lease"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    folder: Mapped[str] = mapped_column(String(255), unique=True)
    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id", ondelete="CASCADE"))
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), index=True)
    heartbeat: Mapped[int]


class DeviceGrant(Base):
    """A trial may have devices: the broker's word, without which no driver starts it. It ends with the trial's stay on its devices."""

    __tablename__ = "device_grant"

    trial_id: Mapped[int] = mapped_column(ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), index=True)
    nodes: Mapped[list[Any]]  # where the broker saw room; empty: wherever it is
    granted: Mapped[int]
    leaving: Mapped[int | None]  # when it was asked to make room at its next checkpoint
    points: Mapped[int] = mapped_column(default=0, server_default="0")  # what waiting had added to its study's priority
    members: Mapped[int] = mapped_column(default=1, server_default="1")  # how many trials may have these devices together, as a group
    beside: Mapped[int | None] = mapped_column(ForeignKey("trial.id", ondelete="CASCADE"), index=True)  # it shares this trial's devices


class Place(Base):
    """A study's place in the queue while a trial of it waits for devices. `number`: 1 is next."""

    __tablename__ = "place"

    study_id: Mapped[int] = mapped_column(ForeignKey("study.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    number: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)  # why it waits, a sentence
    expected: Mapped[int | None]  # when its next trial is thought to start; None where nobody can tell


class Owner(Base):
    """Whose studies they are: what they may have, and what they have had."""

    __tablename__ = "owner"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    devices: Mapped[float | None]  # at once, most; None: no limit
    hours: Mapped[float | None]  # device-hours a month (UTC), most; None: no limit
    weight: Mapped[float] = mapped_column(default=1.0)  # of their fair share
    used: Mapped[float] = mapped_column(default=0.0)  # of the whole cluster lately, in seconds of it; that of long ago counts less
    month: Mapped[str] = mapped_column(String(7), default="")  # "2026-11": that the next is about
    month_hours: Mapped[float] = mapped_column(default=0.0)  # device-hours of the month
    time: Mapped[int]  # until when this is counted


class Heartbeat(Base):
    """A loop of the service that lives: when it last came round and what it has to say (empty: all is well)."""

    __tablename__ = "heartbeat"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    time: Mapped[int]
    trouble: Mapped[str] = mapped_column(Text, default="")
    seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")  # the longest round since the heartbeat before
    troubles: Mapped[int] = mapped_column(default=0, server_default="0")  # rounds that failed since the service started


class Schedule(Base):
    """A study that is submitted again and again. `document` is what is submitted, `spec` its StudySpec when the schedule was made."""

    __tablename__ = "schedule"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    owner: Mapped[str | None] = mapped_column(String(200))  # who added it, and whose its studies are
    source: Mapped[str | None] = mapped_column(String(255))  # catalogue id or file that the spec was read from
    document: Mapped[dict[str, Any]]
    spec: Mapped[dict[str, Any]]
    cron: Mapped[str] = mapped_column(String(200))
    zone: Mapped[str] = mapped_column(String(64))
    misfire: Mapped[Misfire] = mapped_column(state_of(Misfire))
    overlap: Mapped[Overlap] = mapped_column(state_of(Overlap))
    paused: Mapped[bool] = mapped_column(default=False)
    due: Mapped[int]  # the first time that is not dealt with
    created: Mapped[int]
    removed: Mapped[int | None]  # it stays, for what its studies tell of it


class ScheduleRun(Base):
    """What became of a due time of a schedule; there is one row for each, or for many that were dealt with at once."""

    __tablename__ = "schedule_run"
    __table_args__ = (Index(None, "outcome", "schedule_id"),)

    schedule_id: Mapped[int] = mapped_column(ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True)
    due: Mapped[int] = mapped_column(primary_key=True)  # the first of its times
    times: Mapped[int]  # how many due times it stands for
    outcome: Mapped[Outcome] = mapped_column(state_of(Outcome))
    reason: Mapped[str | None] = mapped_column(Text)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("study.id", ondelete="SET NULL"), unique=True)
    time: Mapped[int]  # when it was dealt with
    settled: Mapped[int | None]  # the end of its study (Study.finished) that the following is about
    against: Mapped[int | None] = mapped_column(ForeignKey("study.id", ondelete="SET NULL"))  # the study it was compared with
    moved: Mapped[list[Any] | None]  # what moved more than its noise: compare.Moved as JSON
