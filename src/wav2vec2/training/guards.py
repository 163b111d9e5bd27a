"""Stops a run that cannot succeed any more, and says what was seen and what to change.

A collapsed codebook looks like success: the contrastive loss of a run that has collapsed is exactly zero, because every
distractor is the target and takes no part (transformers issue 14387, fairseq issue 3735). So what is watched is not the
loss but what tells a collapse from success: how many codes are used, how many distractors equal the target, and whether
the accuracy ever leaves chance.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wav2vec2.baselines import VQWav2VecConfig
from wav2vec2.training.settings.run_config import GuardSection, Run
from wav2vec2.training.tasks.task import Task

#: Below this perplexity a group uses one code for nearly everything.
COLLAPSED_PERPLEXITY = 2.0
#: Below this share of its entries a group uses few codes ...
FEW_CODES = 0.05
#: ... and if it used so many times as many shortly before, it has lost them: no warm-up takes codes away so fast.
LOST_CODES = 3.0
#: Updates for which codes must be lost before the run stops; within twice as many one sees it in the log.
LOST_PATIENCE = 20
#: Updates after which few codes, or an accuracy at chance, are worth a note.
FEW_NOTED, CHANCE_NOTED = 50, 250
#: Above this share of distractors that equal their target, most of the task is gone.
COLLAPSED_SHARE = 0.5
#: An accuracy of up to so many times chance is chance.
CHANCE_MARGIN = 1.5
#: Below so many times chance a run has learned next to nothing, and standing still there counts as stalled.
LITTLE_LEARNED = 3.0
#: A rise of the accuracy by this factor is progress.
PROGRESS = 1.05
#: What helped small vq-wav2vec models, which have no diversity loss.
AGAINST_COLLAPSE_OF_VQ = (
    "Usually the learning rate is too high: lower optimizer.learning_rate or lengthen schedule.warmup; small models "
    "were helped by model.config.quantizer_depth=1 and model.config.balanced_classes=true"
)
#: Updates after which a value has lost half its weight in the smoothed accuracy.
HALF_LIFE = 100.0


class TrainingStoppedError(RuntimeError):
    """The run cannot succeed as it is; the message says why, and what to change."""

    #: It follows from figures of all processes, so all raise it, and one of them is enough to say it.
    on_all_processes = True


class CollapseError(TrainingStoppedError):
    """The quantizer uses next to no codes, or distractors are the target itself."""


class StalledError(TrainingStoppedError):
    """The contrastive accuracy does not leave chance."""


class NonFiniteError(TrainingStoppedError):
    """The loss or the gradient is infinite or NaN."""


class Guards:
    """Looks at the figures of every update, or of some of them, and raises when a run has gone wrong for good.

    `chance` is the accuracy of guessing, 1 / (K + 1); None (with `num_groups=0`) for a task without codebooks, whose
    groups have `num_codes` entries each. The `warm_updates` of a warm start know neither. `warmup_updates` are those in
    which the learning rate rises: half of them belong to the time in which an accuracy at chance is no fault.
    `gradient_scaler` says that fp16's loss scaling is at work, whose search for a scale makes
    single gradients infinite. `against_collapse` says what helps where it is not what helps wav2vec 2.0.
    """

    def __init__(
        self,
        section: GuardSection,
        num_groups: int = 0,
        chance: float | None = None,
        *,
        num_codes: int = 0,
        warmup_updates: int = 0,
        warm_updates: int = 0,
        gradient_scaler: bool = False,
        against_collapse: str | None = None,
    ) -> None:
        self.section, self.num_groups, self.chance = section, num_groups, chance
        self.few_codes = FEW_CODES * num_codes
        self.warm_updates, self.half_risen = warm_updates, warm_updates + warmup_updates // 2
        self.grace = warm_updates + section.grace
        self.stall_grace = max(self.grace, self.half_risen)
        self.gradient_scaler = gradient_scaler
        self.against_collapse = against_collapse
        #: Of each thing that has been wrong at every check since: the update at which it was first seen.
        self._since: dict[str, int] = {}
        #: The smoothed accuracy, None before the first one.
        self._accuracy: float | None = None
        #: The last update that was checked.
        self._last = 0
        #: The highest smoothed accuracy so far, and the update that had it.
        self._best, self._best_update = 0.0, 0
        #: The most codes that a group has used lately: half of it is forgotten after `HALF_LIFE` updates.
        self._codes = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What has been counted so far, for the checkpoint: JSON can hold it."""
        return {
            "since": dict(self._since),
            "accuracy": self._accuracy,
            "last": self._last,
            "best": self._best,
            "best_update": self._best_update,
            "codes": self._codes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, so that a resumed run stops where the uninterrupted one would."""
        self._since = dict(state["since"])
        self._accuracy, self._last = state["accuracy"], state["last"]
        self._best, self._best_update = state["best"], state["best_update"]
        self._codes = state.get("codes", 0.0)  # older checkpoints know nothing of them

    def check(
        self, update: int, figures: Mapping[str, Any], name_culprit: Callable[[], str | None] | None = None
    ) -> list[str]:
        """Raise a `TrainingStoppedError` if the run has gone wrong for good by this update; else, what is to be said of
        it now and not again.

        `figures` are those of the log; what is missing from them is not checked. `name_culprit` finds the module that
        made a number that is not finite, and is called only if there is one.
        """
        if self.section.non_finite:
            self._check_finite(update, figures, name_culprit)
        notes: list[str] = []
        if self.num_groups and figures.get("masked_share", 1.0) > 0:  # without a masked frame all figures are zero
            if self.section.collapse:
                self._check_collapse(update, figures)
                notes += self._note_few_codes(update, figures)
            self._check_accuracy(update, figures)
            notes += self._note_chance(update)
        self._last = update
        return notes

    def _lasts(self, name: str, wrong: bool, update: int, patience: int) -> bool:
        """Whether this has been wrong at every check of the last `patience` updates."""
        if not wrong:
            self._since.pop(name, None)
            return False
        return update - self._since.setdefault(name, update) + 1 >= patience

    def _check_finite(
        self, update: int, figures: Mapping[str, Any], name_culprit: Callable[[], str | None] | None
    ) -> None:
        wrong = [
            name for name in ("loss", "log_mel_error", "gradient_norm") if not math.isfinite(figures.get(name) or 0.0)
        ]
        # A scaler that finds no scale for so long is not searching any more.
        patience = min(self.section.patience, 50) if self.gradient_scaler and wrong == ["gradient_norm"] else 1
        if not self._lasts("non_finite", bool(wrong), update, patience):
            return
        culprit = name_culprit() if name_culprit is not None else None
        seen = ", ".join(f"{name}={figures[name]}" for name in wrong)
        raise NonFiniteError(
            f"update {update}: {seen}. "
            + (f"It comes from {culprit}. " if culprit else "No module could be named. ")
            + "Usually the learning rate is too high or fp16 has too small a range: try run.precision=bf16 or fp32, a "
            "smaller optimizer.learning_rate, or optimizer.clip_norm=1; if it is the input, look at the audio of this "
            "update. guards.non_finite=false goes on all the same."
        )

    def _check_collapse(self, update: int, figures: Mapping[str, Any]) -> None:
        perplexities = figures.get("code_perplexity")
        share = figures.get("positive_negative_share", 0.0)
        lowest = min(perplexities) if perplexities else math.inf
        if self._lasts("total_collapse", figures.get("contrastive") == 0 and share > COLLAPSED_SHARE, update, 20):
            self._collapsed("total_collapse", update, "the contrastive loss is exactly 0", figures)
        if self._lasts("lost", self._have_lost_codes(update, perplexities or ()), update, LOST_PATIENCE):
            self._collapsed("lost", update, f"no group uses more than {self.few_codes:g} codes", figures)
        counts = update > self.grace
        if self._lasts("codes", counts and lowest < COLLAPSED_PERPLEXITY, update, self.section.patience):
            group = perplexities.index(lowest) if perplexities else 0
            self._collapsed("codes", update, f"group {group} uses {lowest:.2f} codes (perplexity)", figures)
        if self._lasts("share", counts and share > COLLAPSED_SHARE, update, self.section.patience):
            self._collapsed("share", update, f"{share:.0%} of the distractors are the target itself", figures)

    def _have_lost_codes(self, update: int, perplexities: Sequence[float]) -> bool:
        """Whether all groups use few codes, and one of them used many shortly before."""
        most = max(perplexities, default=math.inf)
        if not math.isfinite(most):
            return False
        self._codes = max(most, self._codes * 0.5 ** ((update - self._last) / HALF_LIFE))
        return most < self.few_codes and most * LOST_CODES < self._codes

    def _collapsed(self, name: str, update: int, seen: str, figures: Mapping[str, Any]) -> None:
        raise CollapseError(
            f"update {update}: the codebooks have collapsed: {seen}, at every update looked at since "
            f"{self._since[name]}; code perplexity per group [{_codes(figures)}]{self._meaning(figures)}. It does not "
            f"mend by itself. {self.against_collapse or self._usual_remedies()}; and start again from a checkpoint "
            "before it. guards.collapse=false goes on all the same."
        )

    def _meaning(self, figures: Mapping[str, Any]) -> str:
        """What the loss says of it, where distractors with the target's code are left out of that."""
        if self.against_collapse is not None:
            return ""
        return (
            f", distractors equal to the target {figures.get('positive_negative_share', 0.0):.0%}. A small loss means "
            "nothing here: distractors with the target's code take no part in it"
        )

    def _usual_remedies(self) -> str:
        return (
            "Usually the batch is too small for the learning rate, or the diversity loss too weak: raise "
            "data.seconds_per_update, lower optimizer.learning_rate or lengthen schedule.warmup, raise "
            f"model.config.diversity_loss_weight (0.5), {self._first_aid()}, or begin from a pretrained checkpoint"
        )

    def _first_aid(self) -> str:
        """What helped where a small model had collapsed, or stayed at chance, within its first updates."""
        if self.warm_updates:
            return "lower model.config.feature_penalty_weight (1)"
        return (
            "give the convolutions a warm start (warm_start.updates=300) with model.config.feat_extract_norm=group and "
            "a lower model.config.feature_penalty_weight (1)"
        )

    def _note_few_codes(self, update: int, figures: Mapping[str, Any]) -> list[str]:
        """Few codes from the beginning may still become more, so it is only said."""
        few = max(figures.get("code_perplexity") or (math.inf,)) < self.few_codes and update > self.half_risen
        if not self._lasts("few", few, update, FEW_NOTED) or update - self._since["few"] + 1 > FEW_NOTED:
            return []
        return [
            f"few codes are in use (perplexity per group [{_codes(figures)}]) for {FEW_NOTED} updates now. If they do "
            "not become more with the accuracy: "
            + (self.against_collapse or f"raise model.config.diversity_loss_weight (0.5), or {self._first_aid()}")
        ]

    def _note_chance(self, update: int) -> list[str]:
        """An accuracy that may still leave chance; a run that does not is stopped much later."""
        first = max(self.warm_updates + CHANCE_NOTED, self.half_risen)
        if self.chance is None or self._accuracy is None or not self._last < first <= update:
            return []
        if self._accuracy > CHANCE_MARGIN * self.chance:
            return []
        return [
            f"the contrastive accuracy is still at chance ({self._accuracy:.4f}; guessing gives {self.chance:.4f}). A "
            "large model takes its time; a small one that is to learn within hours often never leaves it: then "
            f"{self._first_aid()}"
        ]

    def _check_accuracy(self, update: int, figures: Mapping[str, Any]) -> None:
        accuracy = figures.get("accuracy")
        if accuracy is None or self.chance is None or not math.isfinite(accuracy):
            return
        kept = 0.0 if self._accuracy is None else 0.5 ** ((update - self._last) / HALF_LIFE)
        smoothed = kept * (self._accuracy or 0.0) + (1 - kept) * accuracy
        self._accuracy = smoothed
        if smoothed > PROGRESS * self._best or update <= self.stall_grace:
            self._best, self._best_update = max(smoothed, self._best), update
        if self.section.stalled and update > self.stall_grace:
            self._check_stall(update, smoothed, self.chance)
        else:
            self._since.pop("chance", None)
            self._since.pop("little", None)

    def _check_stall(self, update: int, smoothed: float, chance: float) -> None:
        at_chance = smoothed <= CHANCE_MARGIN * chance
        if self._lasts("chance", at_chance, update, max(5 * self.section.patience, 1000)):
            raise self._stalled(update, smoothed, chance, f"at chance since update {self._since['chance']}")
        long = max(20 * self.section.patience, self.section.grace)
        little = smoothed < LITTLE_LEARNED * chance and update > self._best_update
        if self._lasts("little", little, update, long):
            raise self._stalled(update, smoothed, chance, f"hardly above chance and not rising for {long} updates")

    def _stalled(self, update: int, smoothed: float, chance: float, seen: str) -> StalledError:
        return StalledError(
            f"update {update}: nothing is learned: the contrastive accuracy is {seen} (smoothed {smoothed:.4f}; "
            f"guessing gives {chance:.4f}). Usually the learning rate is far too high, far too low or still warming "
            "up, too little is masked, or the audio is silent or noise: change optimizer.learning_rate, shorten "
            "schedule.warmup, set model.config.mask_time_prob to 0.65, raise data.seconds_per_update, and listen to "
            "what data.train points to. guards.stalled=false goes on all the same."
        )


def _codes(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{value:.1f}" for value in figures.get("code_perplexity") or ())


def guards_of(run: Run, task: Task, gradient_scaler: bool, counted: Mapping[str, Any]) -> Guards:
    """The guards of a run with what its task says of itself, and with what they had `counted`, {} at the beginning."""
    guards = Guards(
        run.guards,
        num_groups=task.num_groups,
        num_codes=getattr(task.config, "num_codevectors_per_group", 0),
        chance=task.chance,
        warmup_updates=round(run.schedule.warmup * (run.run.updates - run.warm_updates)),
        warm_updates=run.warm_updates,
        gradient_scaler=gradient_scaler,
        against_collapse=AGAINST_COLLAPSE_OF_VQ if isinstance(task.config, VQWav2VecConfig) else None,
    )
    if counted:
        guards.load_state_dict(counted)
    return guards
