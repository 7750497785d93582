"""Training configuration, as the YAML files in ``configs/`` have it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from speakerguard.embedders.wheels import CAMPPLUS_DIMENSION
from speakerguard.network.config import ModelConfig
from speakerguard.settings import Strict, checked, read_yaml
from speakerguard.sound.filterbank import BANDS

Speed = Annotated[float, Field(ge=0.5, le=2)]


class DataConfig(Strict):
    """Where speech comes from. Paths are relative to the working folder.

    Attributes:
        train: folder of labelled speakers, or a list of such folders; a speaker belongs to one
            folder, whatever the names in the others.
        unlabelled: folder of further voices without labels, for distillation only.
        augment: folder of noises and room responses.
        dev: folder of the trials' recordings, and ``dev_trials`` the list, to choose weights by.
        cache: where prepared speech and teacher embeddings are kept.
        speeds: each makes another voice of every speaker, 0.5 to 2; 1 is the voice itself.
    """

    train: Path | tuple[Path, ...]
    unlabelled: Path | None = None
    augment: Path | None = None
    dev: Path
    dev_trials: Path
    cache: Path = Path("runs/cache")
    speeds: tuple[Speed, ...] = Field(default=(1.0,), min_length=1)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of labelled speakers."""
        return (self.train,) if isinstance(self.train, Path) else self.train

    @field_validator("train")
    @classmethod
    def _some_folder(cls, train: Path | tuple[Path, ...]) -> Path | tuple[Path, ...]:
        if not train or (isinstance(train, tuple) and len(set(train)) < len(train)):
            raise ValueError("must name a folder, or several different ones")
        return train

    @model_validator(mode="after")
    def _unseen(self) -> Self:
        refuse_overlap(self.folders, [self.dev], "train", "dev")
        if self.unlabelled:
            refuse_overlap([self.unlabelled], [self.dev], "unlabelled", "dev")
        return self


def refuse_overlap(
    train: Iterable[Path], dev: Iterable[Path], train_key: str, dev_key: str
) -> None:
    """Raises ValueError where weights would be chosen by what they are trained on."""
    for one, other in itertools.product(train, dev):
        first, second = one.resolve(), other.resolve()
        if first.is_relative_to(second) or second.is_relative_to(first):
            raise ValueError(
                f"{train_key} ({one}) and {dev_key} ({other}) share recordings; weights would be "
                "chosen by what they learn by heart"
            )


class LossConfig(Strict):
    """Weights of the losses; 0 leaves one out.

    Attributes:
        softmax: margin softmax over the training voices, with ``scale`` and ``margin``;
            margin 0 is the paper's pre-training.
        triplet: hard-negative triplet loss, with ``triplet_margin``.
        distil_cosine, distil_similarity: pull towards the teacher's embeddings.
    """

    softmax: float = Field(default=0.0, ge=0)
    scale: float = Field(default=30.0, gt=0)
    margin: float = Field(default=0.2, ge=0, le=1)
    triplet: float = Field(default=0.0, ge=0)
    triplet_margin: float = Field(default=0.1, ge=0)
    distil_cosine: float = Field(default=0.0, ge=0)
    distil_similarity: float = Field(default=0.0, ge=0)

    @property
    def teacher(self) -> bool:
        """Whether any loss needs the teacher."""
        return self.distil_cosine > 0 or self.distil_similarity > 0

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not (self.softmax or self.triplet or self.teacher):
            raise ValueError("every loss has weight 0; give one a weight, such as softmax: 1")
        return self


class AttackConfig(Strict):
    """Attacks to learn from, so that they do not pass for whom they imitate.

    Attributes:
        weight: of what an attack's cosine to its target's voice exceeds ``limit`` by.
        made: folders of conversions, made by ``advgan-generate``.
        corpus: what their manifests' paths are relative to; the first of data.train by default.
        conversions: of ``made`` in a batch, each with a clip of its target beside it.
        keep_source: pulls conversions towards what the teacher hears in their source.
        share: of a batch's labelled crops, that are attacked by gradient. They keep their label.
        epsilon: largest change of a sample by gradient, as a share of its crop's peak.
        steps: of gradient; 1 is FGSM, more are PGD.
    """

    weight: float = Field(default=5.0, gt=0)
    limit: float = Field(default=0.4, ge=-1, lt=1)
    made: tuple[Path, ...] = ()
    corpus: Path | None = None
    conversions: int = Field(default=8, ge=1)
    keep_source: float = Field(default=0.0, ge=0)
    share: float = Field(default=0.0, ge=0, le=0.5)
    epsilon: float = Field(default=0.004, gt=0, le=0.1)
    steps: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _attacks(self) -> Self:
        if not (self.made or self.share):
            raise ValueError("nothing attacks; give folders in made, or a share above 0")
        if self.keep_source and not self.made:
            raise ValueError("keep_source is about conversions; give folders in made as well")
        return self


class RunConfig(Strict):
    """What every training run has.

    Attributes:
        seed: decides batches and first weights.
        out: folder for weights, curves and state.
        init: model of the same kind to start from, a name or folder.
        steps: length of the run, for which the learning rate is planned.
        learning_rate: peak, reached after ``warmup`` steps, then a cosine to a hundredth.
        clip: largest norm of a gradient.
        ema: decay of the averaged weights, which are the ones kept.
        bfloat16: compute networks in bfloat16 where that is safe.
        threads: of each process; results repeat exactly only with the same number.
        evaluate_every: steps between evaluations on dev.
    """

    of_the_machine: ClassVar[tuple[str, ...]] = ("threads",)  # may differ when a run goes on

    seed: int = Field(default=0, ge=0, lt=2**63)
    out: Path
    init: str | None = None
    steps: int = Field(ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    warmup: int = Field(default=200, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=5.0, gt=0)
    ema: float = Field(default=0.998, ge=0, lt=1)
    bfloat16: bool = True
    threads: int = Field(default=1, ge=1)
    evaluate_every: int = Field(default=500, ge=1)


class GuardRunConfig(RunConfig):
    """What every training run of a guard has.

    Attributes:
        model: the network.
        data: what it hears.
        optimiser: ``adamw``, or ``muon`` for the convolutions and AdamW for the rest.
        workers: processes that make batches; 0 makes them in the training process.
        choose_by: what the best weights are best at: ``pooled`` is the equal error rate over all
            trials; ``mean`` the mean of that and of its mean over sources, in full and of 2 s;
            ``last`` keeps the last, as where robustness is bought with error rates.
    """

    of_the_machine: ClassVar[tuple[str, ...]] = ("threads", "workers")

    model: ModelConfig = ModelConfig()
    data: DataConfig
    optimiser: Literal["adamw", "muon"] = "adamw"
    workers: int = Field(default=1, ge=0)
    choose_by: Literal["pooled", "mean", "last"] = "pooled"


class TrainConfig(GuardRunConfig):
    """A training run on voices: their labels, and what a teacher hears in each.

    If only the head of ``init`` differs from ``model``, it gives its trunk and the head starts
    anew.

    Attributes:
        new_head: whether the head starts anew even where that of ``init`` fits.
        frozen: steps during which the trunk stays as it is, while a new head finds its way.
        voices, clips: a batch holds ``clips`` crops of each of ``voices`` voices.
        unlabelled_share: part of the batch drawn from unlabelled speech.
        crop_seconds: shortest and longest crop, 0.3 s or more; each batch has one length.
        ramp: part of the run over which augmentation, margin and epsilon grow to what is asked for.
        augmentation: how often distortions happen after the ramp, in [0, 1].
        bands_masked, frames_masked: most that SpecAugment hides.
    """

    new_head: bool = False
    frozen: int = Field(default=0, ge=0)
    loss: LossConfig
    attacks: AttackConfig | None = None
    voices: int = Field(default=32, ge=2)
    clips: int = Field(default=2, ge=1)
    unlabelled_share: float = Field(default=0.0, ge=0, lt=1)
    crop_seconds: tuple[float, float] = (1.6, 3.0)
    ramp: float = Field(default=0.5, gt=0, le=1)
    augmentation: float = Field(default=1.0, ge=0, le=1)
    bands_masked: int = Field(default=8, ge=0, lt=BANDS)
    frames_masked: int = Field(default=20, ge=0)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        shortest, longest = self.crop_seconds
        if not 0.3 <= shortest <= longest:
            raise ValueError("crop_seconds must be [shortest, longest], 0.3 s or more")
        if self.loss.triplet and self.clips < 2:
            raise ValueError("loss.triplet compares clips of one voice; clips must be 2 or more")
        if self.unlabelled_share and not (self.data.unlabelled and self.loss.teacher):
            raise ValueError("unlabelled_share needs data.unlabelled and a distillation loss")
        if self.attacks and self.attacks.keep_source and not self.loss.distil_cosine:
            raise ValueError("attacks.keep_source follows the teacher; give loss.distil_cosine")
        if self.attacks and self.attacks.keep_source and 1 not in self.data.speeds:
            raise ValueError("attacks.keep_source needs the voice itself, 1, in data.speeds")
        if self.loss.distil_cosine and self.model.dimension != CAMPPLUS_DIMENSION:
            raise ValueError(
                f"loss.distil_cosine needs embeddings of the teacher's {CAMPPLUS_DIMENSION} "
                f"values, the model's have {self.model.dimension}"
            )
        return self


class LessonWeights(Strict):
    """Weights of what a student must say as its teacher does; 0 leaves one out.

    Attributes:
        frames: the teacher's last layer in every frame, by mean squared error.
        hints: two earlier layers likewise, from what the trunk gives.
        cosine: its embedding, by one minus the cosine.
        similarity: the cosines between the embeddings of a batch.
    """

    frames: float = Field(default=10.0, ge=0)
    hints: float = Field(default=10.0, ge=0)
    cosine: float = Field(default=5.0, ge=0)
    similarity: float = Field(default=10.0, ge=0)

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not any(weight for _, weight in self):
            raise ValueError("every loss has weight 0; give one a weight, such as frames: 10")
        return self


class LessonConfig(GuardRunConfig):
    """A training run on a teacher alone, crop by crop and frame by frame; no labels are used.

    Attributes:
        lessons: weights of the losses; a file with this section is of this kind.
        batch: crops a step and process, of 2.08 s.
        crops: to make and ask the teacher about once, before training. Each takes 100 kB in the
            cache.
        also: folders of further speech, without labels, such as ``advgan-generate`` writes.
    """

    lessons: LessonWeights
    batch: int = Field(default=64, ge=2)
    crops: int = Field(default=40_000, ge=4)
    also: tuple[Path, ...] = ()

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.model.head != "tdnn":
            raise ValueError(f"lessons are about the frames of head tdnn, not {self.model.head}")
        if self.model.embedding != CAMPPLUS_DIMENSION:
            raise ValueError(
                f"lessons need embeddings of the teacher's {CAMPPLUS_DIMENSION} values, the "
                f"model's have {self.model.embedding}"
            )
        if self.data.speeds != (1.0,):
            raise ValueError("lessons choose the pace of each crop; leave data.speeds out")
        return self


def load(path: Path) -> TrainConfig | LessonConfig:
    """Read the training configuration of a guard, of either kind. Raises what `load_as` does."""
    content = read_yaml(path)
    if "lessons" in content:
        return checked(path, content, LessonConfig)
    return checked(path, content, TrainConfig)
