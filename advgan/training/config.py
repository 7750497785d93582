"""Training configurations of the attacker: plain YAML, checked as the guard's are.

An unknown key or a value of the wrong type is an error that names the file, the key and the
nearest known one; :func:`.load_as` reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from advgan.networks.discriminator import DiscriminatorConfig
from advgan.networks.generator import GeneratorConfig
from advgan.networks.perturber import PerturberConfig
from advgan.networks.vocoder import GRIFFIN_LIM, VocoderConfig
from speakerguard.settings import Strict
from speakerguard.training.config import RunConfig, Speed, refuse_overlap


class SpeechConfig(Strict):
    """Where speech comes from. Paths are relative to the working folder.

    Attributes:
        train: folder of labelled speakers.
        unlabelled: folder of further voices without labels.
        dev: folder of the pairs' recordings, and ``dev_pairs`` the list (source, target, enrol,
            tab-separated), to choose weights by.
        cache: where prepared speech is kept; the guard's training shares it.
    """

    train: Path
    unlabelled: Path | None = None
    dev: Path
    dev_pairs: Path
    cache: Path = Path("runs/cache")

    @model_validator(mode="after")
    def _unseen(self) -> Self:
        refuse_overlap([self.train], [self.dev], "train", "dev")
        if self.unlabelled:
            refuse_overlap([self.unlabelled], [self.dev], "unlabelled", "dev")
        return self


class AttackerRunConfig(RunConfig):
    """What every training run of the attacker has.

    Attributes:
        batch: clips a step, of ``frames`` mel frames each.
        optimiser: ``adam``, or ``muon`` for the kernels and Adam for the rest.
        dev_size: pairs, or clips, of dev to evaluate on.
    """

    data: SpeechConfig
    batch: int = Field(default=32, ge=1, le=65_536)
    frames: int = Field(default=128, ge=32, le=65_536)
    optimiser: Literal["adam", "muon"] = "adam"
    learning_rate: float = Field(default=5e-4, gt=0)
    warmup: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip: float = Field(default=3.0, gt=0)
    bfloat16: bool = False
    evaluate_every: int = Field(default=200, ge=1)
    dev_size: int = Field(default=24, ge=2)


class VcConfig(AttackerRunConfig):
    """Plain conversion: AGAIN-VC's self-reconstruction.

    Attributes:
        judge: a guard whose scores on dev are recorded; it takes no part in the training.
    """

    model: GeneratorConfig = GeneratorConfig()
    judge: str | None = None


class VocoderRunConfig(AttackerRunConfig):
    """The neural vocoder.

    Attributes:
        magnitudes: weight of the distance between the magnitudes it finds and the real ones. It
            says nothing of phases, so it suits ``model.iterations`` of Griffin-Lim.
        spectral, mel_weight: of the spectral and the mel distance between the sounds; where both
            and ``adversarial`` are 0, none are made, which is faster.
        dnsmos_weight: of DNSMOS, against the distances, when weights are chosen on dev.
        adversarial: weight of the discriminators' opinion; 0 trains without them.
        adversarial_from: step at which they join.
    """

    model: VocoderConfig = VocoderConfig()
    magnitudes: float = Field(default=0.0, ge=0)
    spectral: float = Field(default=1.0, ge=0)
    mel_weight: float = Field(default=2.0, ge=0)
    dnsmos_weight: float = Field(default=0.5, ge=0)
    adversarial: float = Field(default=0.0, ge=0)
    adversarial_from: int = Field(default=0, ge=0)
    discriminator: DiscriminatorConfig = DiscriminatorConfig()

    @property
    def of_sounds(self) -> bool:
        """Whether any loss is of sounds."""
        return bool(self.spectral or self.mel_weight or self.adversarial)

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if not (self.magnitudes or self.spectral or self.mel_weight):
            raise ValueError("every distance has weight 0; give one a weight, such as spectral: 1")
        return self


class AdversarialWeights(Strict):
    """Weights of the generator's losses; 0 leaves one out.

    Attributes:
        reconstruction: L1 between a clip and its conversion into its own voice.
        gan: to pass for real before the discriminator.
        content: L1 between the guided content of source and conversion.
        guard: hinge on the cosine to the target, ``margin`` (a cosine as well) above the one at
            which the guard's score meets its threshold.
        sound: of a perturbation, its energy relative to the bound.
    """

    reconstruction: float = Field(default=5.0, ge=0)
    gan: float = Field(default=0.1, ge=0)
    content: float = Field(default=5.0, ge=0)
    guard: float = Field(default=2.0, ge=0)
    margin: float = Field(default=0.1, ge=0, le=1)
    sound: float = Field(default=0.1, ge=0)


class AdversarialConfig(AttackerRunConfig):
    """Training against a guard.

    Attributes:
        mode: ``convert`` trains a generator, ``perturb`` a bounded perturbation.
        guard: the verifier in the loss; never one that judges the result as unseen.
        point: its operating point to get past.
        vocoder: ``griffin-lim`` or a trained vocoder, between conversion and guard.
        iterations: of Griffin-Lim in training.
        target_seconds: of a target that the guard hears; the generator takes ``frames`` of them.
        target_speeds: slowest and fastest that a target is played at, for more voices than the
            guard was trained on.
        target_mixing: share of targets between two voices: what the generator is told and what
            it is judged against are mixed alike, for voices that nobody has.
        target_noise: length of a random vector that is added to both alike, before they are made
            unit vectors again: so many voices that none is learnt by heart.
        invented: share of sources and targets who become somebody that does not exist
            (:func:`speakerguard.sound.voice.invent_voice`).
        discriminator_rate: its learning rate.
    """

    mode: Literal["convert", "perturb"] = "convert"
    model: GeneratorConfig = GeneratorConfig()
    perturber: PerturberConfig = PerturberConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    discriminator_rate: float = Field(default=2e-4, gt=0)
    guard: str = "guard"
    point: str | None = None
    vocoder: str = "griffin-lim"
    iterations: int = Field(default=8, ge=1, le=1000)
    target_seconds: float = Field(default=4.0, ge=0, le=600)
    target_speeds: tuple[Speed, Speed] = (1.0, 1.0)
    target_mixing: float = Field(default=0.0, ge=0, le=1)
    target_noise: float = Field(default=0.0, ge=0)
    invented: float = Field(default=0.0, ge=0, le=1)
    loss: AdversarialWeights = AdversarialWeights()

    @model_validator(mode="after")
    def _attacks(self) -> Self:
        if self.loss.guard == 0:
            raise ValueError("loss.guard is 0, so nothing would be attacked; use advgan-train vc")
        if self.target_speeds[0] > self.target_speeds[1]:
            raise ValueError("target_speeds must be [slowest, fastest]")
        return self


class DetectorConfig(AttackerRunConfig):
    """The discriminator on its own, as a detector of made speech.

    Attributes:
        spoofs: folders written by advgan-generate, each with its ``manifest.tsv``.
        dev_spoofs: the same for dev, best of other generators and vocoders than ``spoofs``; each
            folder is a kind with an error rate of its own.
        vocoders: ``griffin-lim`` or trained ones, whose copies of real speech count as made.
        dev_vocoders: the same for dev, best some that are not among ``vocoders``.
        copies: share of the made half of a batch that is vocoder copies, not conversions.
        augment: folder of noises and room responses for codecs and replay of both classes.
    """

    model: DiscriminatorConfig = DiscriminatorConfig()
    spoofs: tuple[Path, ...] = ()
    dev_spoofs: tuple[Path, ...] = ()
    vocoders: tuple[str, ...] = (GRIFFIN_LIM,)
    dev_vocoders: tuple[str, ...] = (GRIFFIN_LIM,)
    copies: float = Field(default=0.4, ge=0, le=1)
    augment: Path | None = None

    @model_validator(mode="after")
    def _has_spoofs(self) -> Self:
        if not self.spoofs and self.copies < 1:
            raise ValueError("spoofs is empty; name folders of advgan-generate, or set copies: 1")
        if not self.vocoders and self.copies > 0:
            raise ValueError("vocoders is empty; name some, or set copies: 0")
        if not self.dev_spoofs and not self.dev_vocoders:
            raise ValueError("dev_spoofs and dev_vocoders are empty; nothing made to choose by")
        if len({folder.name for folder in self.dev_spoofs}) < len(self.dev_spoofs):
            raise ValueError("two folders of dev_spoofs have the same name; rename one")
        refuse_overlap(self.spoofs, self.dev_spoofs, "spoofs", "dev_spoofs")
        return self
