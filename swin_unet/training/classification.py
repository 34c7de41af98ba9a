"""Classification: which labels occur in a slice, or the one class of a picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swin_unet.class_metrics import METRICS, score_classes
from swin_unet.classifying import SliceClassifier
from swin_unet.config import Config
from swin_unet.confusion import confusion_picture
from swin_unet.imaging import Volume
from swin_unet.training.distributed import ALONE, World
from swin_unet.training.tables import Results
from swin_unet.training.task import Batch, Task, TaskData, Validation

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClassificationData(TaskData):
    """What the engine is given of a data set to classify.

    Batches have a "label": the number of the class from 0 on (B,), or with `multi_label` a label
    map (B, H, W), whose values 1, 2, ... are the classes that occur.

    Attributes:
        load_case: Reads image and label of a case by name, the label as in the batches.
        multi_label: Whether several classes may be true at once.
    """

    load_case: Callable[[str], tuple[Volume, Volume | int]]
    multi_label: bool


@dataclass(frozen=True)
class _Samples:
    """Slices on their way through the network: (n, C, h, w) and their true labels."""

    case: str
    images: Tensor
    labels: Array


class ClassificationTask(Task):
    """Cross-entropy on slices or pictures; of every class by itself where several may be true.

    Args:
        model: The network, on its device.
        data: Loader and cases.
        config: The run's configuration.
        world: The processes that share the work.
    """

    columns = METRICS
    data: ClassificationData

    def __init__(
        self, model: nn.Module, data: ClassificationData, config: Config, world: World = ALONE
    ) -> None:
        super().__init__(model, model, data, config, world)
        self.metric = "f1" if data.multi_label else "accuracy"

    @property
    def checkpoint_facts(self) -> dict[str, Any]:
        """Tell inference whether several classes may be true at once."""
        return {"multi_label": self.data.multi_label}

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross-entropy of a batch on the model's device."""
        logits, label = self.forward(batch["image"]).float(), batch["label"]
        if self.data.multi_label:
            occurs = occurring(label, len(self.data.classes))
            loss = F.binary_cross_entropy_with_logits(logits, occurs)
        else:
            smoothing = self.config.train.label_smoothing
            loss = F.cross_entropy(logits, label, label_smoothing=smoothing)
        return {"loss": self.mean_of_all(loss)}

    def example(self, num_samples: int) -> Batch:
        """Return a batch of zeros, to try a step with."""
        image = self.empty_images(num_samples)
        shape = image[:, 0].shape if self.data.multi_label else (num_samples,)
        return {"image": image, "label": torch.zeros(shape, dtype=torch.int64)}

    def validate(self, network: nn.Module, before_case: Callable[[], None]) -> Validation:
        """Classify the validation cases as infer.py does."""
        summary, _ = self.score(network, self.data.validation, before_case)
        key = "f1" if self.data.multi_label else "recall"
        score = (summary["mean"]["f1"] if self.data.multi_label else summary["accuracy"]) or 0.0
        values = {f"{self.metric}/{name}": v[key] for name, v in summary["per_class"].items()}
        return Validation(
            summary,
            score=score,
            values={f"{self.metric}/mean": score, **values},
            pictures={"confusion": confusion_picture(summary)} if self.world.is_first else {},
        )

    def score(
        self,
        network: nn.Module,
        names: Sequence[str],
        before_case: Callable[[], None],
        *,
        surfaces: bool = True,
    ) -> tuple[dict[str, Any], float]:
        """Classify and score cases, see `Task.score`; there are no surfaces."""
        classifier = self._classifier(network)
        results: list[tuple[str, Array, Array]] = []
        seconds = 0.0
        for batch in self._batches(names, before_case, classifier):
            started = time.monotonic()
            probabilities = classifier.probabilities(torch.cat([part.images for part in batch]))
            seconds += time.monotonic() - started
            ends = np.cumsum([len(part.labels) for part in batch])[:-1]
            pieces = np.split(probabilities, ends)
            results += [(p.case, p.labels, x) for p, x in zip(batch, pieces, strict=True)]
        everybodys = [result for part in self.world.gather(results) for result in part]
        seconds = sum(self.world.gather(seconds)) / max(1, len(names))
        return self._summary(names, everybodys), seconds

    def tables(self, results: Results) -> list[list[str]]:
        """Write the share of right answers above the scores per class."""
        lines = [_headline(result) for result in results.values()]
        table = super().tables(results)[0]
        return [[*dict.fromkeys(lines), *table]]

    def _summary(
        self, names: Sequence[str], results: Sequence[tuple[str, Array, Array]]
    ) -> dict[str, Any]:
        num_classes = len(self.data.classes)
        labels = [labels for _, labels, _ in results]
        shape = (0, num_classes) if self.data.multi_label else (0,)
        summary = score_classes(
            np.concatenate([np.zeros(shape, np.int64), *labels]),
            np.concatenate([np.zeros((0, num_classes)), *(found for _, _, found in results)]),
            self.data.classes,
            multi_label=self.data.multi_label,
        )
        return {**summary, "cases": [{"case": name} for name in names]}

    def _batches(
        self, names: Sequence[str], before_case: Callable[[], None], classifier: SliceClassifier
    ) -> Iterator[list[_Samples]]:
        """Read this process's share of the cases, and put pictures together to batches."""
        batch: list[_Samples] = []
        for name in self.world.turns(names):
            before_case()
            if name is None:
                continue
            for samples in self._samples(name, classifier):
                batch.append(samples)
                if sum(len(part.labels) for part in batch) >= classifier.batch_size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _samples(self, name: str, classifier: SliceClassifier) -> Iterator[_Samples]:
        """Read a case as network input with the labels of its slices."""
        image, label = self.data.load_case(name)
        prepared = classifier.prepare(image)
        if isinstance(label, int):
            yield _Samples(name, prepared.slab(0, 1), np.array([label]))
            return
        working = prepared.to_working(label)
        start = 0
        for slab in classifier.slabs(prepared):
            maps = prepared.labels_slab(working, start, start + len(slab)).astype(np.int64)
            occurs = occurring(torch.from_numpy(maps), len(self.data.classes))
            yield _Samples(name, slab, occurs.numpy().astype(np.int64))
            start += len(slab)

    def _classifier(self, network: nn.Module) -> SliceClassifier:
        options = self.config.inference
        return SliceClassifier(
            network,
            self.data.preprocessing,
            num_channels=self.data.num_channels,
            classes=self.data.classes,
            multi_label=self.data.multi_label,
            device=self.device,
            precision=options.precision,
            batch_size=options.batch_size,
        )


def occurring(labels: Tensor, num_classes: int) -> Tensor:
    """Return which of the values 1, 2, ... occur in label maps (B, H, W), (B, num_classes) float32.

    What a slice shows is what its label map shows, be it a single pixel.
    """
    found = [(labels == value).flatten(1).any(dim=1) for value in range(1, num_classes + 1)]
    return torch.stack(found, dim=1).float()


def _headline(result: dict[str, Any]) -> str:
    """Say in a line how many answers were right."""
    keys = ("accuracy", "top5", "exact")
    shown = [f"{key} {result[key]:.4f}" for key in keys if result.get(key) is not None]
    return f"{result['checkpoint']}: {result['num_samples']} slices, {', '.join(shown)}"
