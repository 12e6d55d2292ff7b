"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from dicom_node.errors import Defect, SettingsError
from training.files import refusing_damaged, replace_file
from training.fit.device import forward, lay_out, mixed_precision
from training.fit.losses import Loss
from training.fit.population import settle_statistics
from training.fit.processes import Processes
from training.fit.recipe import Recipe
from training.fit.state import Progress, load_state, save_state
from training.prepare.batches import choose, load_batch, seed_from
from training.prepare.examples import Example
from training.reporter import Reporter
from worker.networks.network import SegmentationNetwork

Validate = Callable[[SegmentationNetwork], float]

LOWER_RATE = "lower the learning rate of the experiment's recipe, and train in another folder"


class Training:
    """Trains one network by a recipe; it can be interrupted and resumed at the exact step.

    Parameters
    ----------
    network : SegmentationNetwork
        With the weights to start from.
    examples : sequence of Example
    loss : Loss
    validate : callable
        Maps the network to the Dice that decides which weights are best.
    folder : Path
        Gets ``state.pt``, ``best.safetensors``, ``last.safetensors`` and ``tensorboard/``. If it has a state already,
        training continues from that.
    processes : Processes
        The processes that share the work; each sees its share of each batch.
    save_seconds : float
        Time between two saves of the state, longer if saving takes long; 0 saves after each step. It does not affect
        the weights.

    Raises
    ------
    SettingsError
        When the processes cannot share a batch evenly: the mean of their gradients would not be the batch's. Or when
        the augmentation pastes from other images of a process's share, and the share is a single image.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        examples: Sequence[Example],
        recipe: Recipe,
        loss: Loss,
        validate: Validate,
        folder: Path,
        *,
        seed: int,
        processes: Processes,
        reporter: Reporter,
        save_seconds: float = 60.0,
    ) -> None:
        if recipe.batch_size % processes.count:
            raise SettingsError(
                "batch-does-not-divide",
                f"a batch of {recipe.batch_size} cannot be shared evenly by {processes.count} processes; start torchrun"
                " with another --nproc-per-node, or give each GPU a split (--splits N) in a folder of its own",
            )
        if recipe.augmentation.paste is not None and recipe.batch_size == processes.count:
            raise SettingsError(
                "nothing-to-paste",
                f"{processes.count} processes share a batch of {recipe.batch_size}, so that each has a single image "
                "and none to paste lesions from; start fewer, or make the recipe's batch larger",
            )
        self.network = lay_out(network, processes.device)
        self.examples = examples
        self.recipe = recipe
        self.loss = loss
        self.validate = validate
        self.folder = folder
        self.seed = seed
        self.processes = processes
        self.reporter = reporter
        self.save_seconds = save_seconds
        self.steps_per_epoch = recipe.steps_per_epoch or max(1, len(examples) // recipe.batch_size)
        self.optimiser = recipe.optimiser.build(self.network)
        folder.mkdir(parents=True, exist_ok=True)
        self.progress = self._take_up()

    def run(self) -> None:
        """Train to the end; if training is finished already, do nothing."""
        first_step = self._global_step()
        writer = SummaryWriter(self.folder / "tensorboard", purge_step=first_step) if self._leads else None
        self.reporter.start(first_step, self._global_step(len(self._phase_epochs), 0))
        saved, pause = time.monotonic(), self.save_seconds
        # Not kept in self: the process group cannot end its threads while anything refers to it, as this does.
        parallel = DistributedDataParallel(self.network) if self.processes.count > 1 else self.network
        try:
            while not self.progress.finished:
                began = time.monotonic()
                self._step(parallel)
                if self.progress.step % self.steps_per_epoch == 0:
                    self._end_epoch(writer)
                self.progress.seconds += time.monotonic() - began
                self.reporter.step(self._global_step())
                if self.progress.finished or time.monotonic() - saved >= pause:
                    began = time.monotonic()
                    self._save()
                    saved = time.monotonic()
                    if self.save_seconds:
                        # Large states take seconds to write: spend at most about a thirtieth of the time on it.
                        pause = max(self.save_seconds, 30 * (saved - began))
        finally:
            self.reporter.stop()
            if writer is not None:
                writer.close()

    def load_weights(self, which: Literal["last", "best"]) -> SegmentationNetwork:
        """Return the network as the last phase's last epoch left it, or as its best one was validated."""
        self._load_weights(which)
        if self.recipe.population_statistics and which == "last":
            settle_statistics(self.network, self._show_all)
        return self.network

    def _step(self, parallel: nn.Module) -> None:
        """One batch: forward, backward, and a step of the optimiser."""
        progress, recipe = self.progress, self.recipe
        epochs = self._phase_epochs[progress.phase]
        recipe.optimiser.set_rate(
            self.optimiser,
            progress.step / (epochs * self.steps_per_epoch),
            progress.step // self.steps_per_epoch,
        )
        images, labels = self._batch()
        parallel.train()
        with mixed_precision(self.processes.device, self.network.layout):
            logits = forward(parallel, self.network.layout, images)
        # The loss of the whole batch, not the mean of the shares' losses: a share may have no lesion at all.
        loss = self.loss(self.processes.gather(logits), self.processes.gather(labels))
        value = loss.item()
        if not math.isfinite(value):
            raise Defect("loss-not-finite", f"the loss is {value} at step {progress.step}; {LOWER_RATE}")
        self.optimiser.zero_grad()
        # DistributedDataParallel averages the processes' gradients, which must be added: hence the factor.
        (self.processes.count * loss).backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm or math.inf)
        if not norm.isfinite():
            raise Defect("gradient-not-finite", f"the gradient is not finite at step {progress.step}; {LOWER_RATE}")
        self.optimiser.step()
        progress.loss_sum += value
        progress.step += 1

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return this process's share of the step's batch, and seed the step's other random draws (dropout)."""
        progress, rank = self.progress, self.processes.rank
        order_seed = seed_from(self.seed, progress.phase)
        chosen = choose(len(self.examples), self.recipe.batch_size, order_seed, progress.step)
        mine = [self.examples[i] for i in chosen[rank :: self.processes.count]]
        step_seed = seed_from(self.seed, progress.phase, progress.step, rank)
        torch.manual_seed(step_seed)
        return load_batch(mine, self.recipe.augmentation, self.processes.device, step_seed)

    def _show_all(self) -> None:
        """Show the network every training example once."""
        for first in range(0, len(self.examples), self.recipe.batch_size):
            batch = self.examples[first : first + self.recipe.batch_size]
            images, _ = load_batch(batch, self.recipe.augmentation, self.processes.device, seed_from(self.seed, first))
            with mixed_precision(self.processes.device, self.network.layout):
                forward(self.network, self.network.layout, images)

    def _end_epoch(self, writer: SummaryWriter | None) -> None:
        """Validate, keep the best weights, and decide what comes next."""
        progress = self.progress
        epoch = progress.step // self.steps_per_epoch
        dice = self.processes.from_leader(self.validate(self.network) if self._leads else 0.0)
        loss = progress.loss_sum / self.steps_per_epoch
        rate = float(self.optimiser.param_groups[0]["lr"])
        progress.loss_sum = 0.0
        progress.history.append({"phase": progress.phase, "epoch": epoch, "loss": loss, "dice": dice, "rate": rate})
        if not dice <= progress.best_dice:  # NaN without foreground in the validation part: keep the latest
            progress.best_dice, progress.best_epoch = dice, epoch
            self._save_weights("best")
        if writer is not None:
            for name, value in (("loss", loss), ("validation Dice", dice), ("learning rate", rate)):
                writer.add_scalar(name, value, self._global_step())
        self.reporter.epoch(progress.phase, epoch, loss, dice, rate)
        is_stuck = self.recipe.stop_after is not None and epoch - progress.best_epoch >= self.recipe.stop_after
        if is_stuck or epoch == self._phase_epochs[progress.phase]:
            self._end_phase()

    def _end_phase(self) -> None:
        """Start the next phase from the best weights of this one, or finish."""
        progress = self.progress
        if progress.phase + 1 == len(self._phase_epochs):
            self._save_weights("last")
            progress.finished = True
            return
        self.processes.wait()
        self._load_weights("best")
        # In place, because DistributedDataParallel and the optimiser hold the same parameters.
        self.optimiser.load_state_dict(self.recipe.optimiser.build(self.network).state_dict())
        progress.phase += 1
        progress.step = 0
        progress.best_dice, progress.best_epoch = -1.0, -1
        # Save before the new phase overwrites the best weights of the old one.
        self._save()

    @property
    def _phase_epochs(self) -> tuple[int, ...]:
        return (*self.recipe.phases, self.recipe.epochs)

    @property
    def _leads(self) -> bool:
        return self.processes.rank == 0

    def _global_step(self, phase: int | None = None, step: int | None = None) -> int:
        """Return a step's number counted over all phases; by default that of the present step."""
        phase = self.progress.phase if phase is None else phase
        step = self.progress.step if step is None else step
        return sum(self._phase_epochs[:phase]) * self.steps_per_epoch + step

    def _take_up(self) -> Progress:
        path = self.folder / "state.pt"
        return load_state(path, self.network, self.optimiser) if path.exists() else Progress()

    def _save(self) -> None:
        if self._leads:
            save_state(self.folder / "state.pt", self.progress, self.network, self.optimiser)

    def _load_weights(self, name: str) -> None:
        path = self.folder / f"{name}.safetensors"
        with refusing_damaged(path, f"remove {self.folder}, and the same command trains from the first step"):
            weights = load_file(path)
        self.network.load_state_dict(weights)

    def _save_weights(self, name: str) -> None:
        if self._leads:
            weights = {key: tensor.detach().cpu().contiguous() for key, tensor in self.network.state_dict().items()}
            replace_file(self.folder / f"{name}.safetensors", lambda partial: save_file(weights, partial))
