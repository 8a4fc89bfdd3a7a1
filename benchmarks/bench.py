"""The benchmarks: what is measured, at which sizes, and the figures that are calculated."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from alexnet.cifar10 import NUM_CLASSES
from alexnet.model.alexnet_layers import training_pflop
from alexnet.runtime.choices import AmpLevel, KernelLibrary
from alexnet.training.recipe import Recipe
from benchmarks import dataset, measure

Row = dict[str, Any]
"""Figures by name. A list has the seconds per call of each repetition."""

ZOO_BATCH_SIZE = 32
"""The model zoo's, with which the input pipelines are measured whatever params.yaml has."""
DROPOUT_RATE = 0.5
"""The rate of the dropout masks in these pipelines."""
STEP_RECIPE = {"learning_rate": 0.002, "momentum": 0.9}
"""The recipe of the model zoo, with which the bare steps are measured."""
AUGMENTATIONS = {"crop_padding_mode": "reflect", "flip": "alternating", "cutout_size": 12}
"""All that `Batches` can do to an image."""
PIPELINE_IMAGES = 50_000
"""The number of images for the input pipelines. MindSpore's `Cifar10Dataset` accepts no other."""


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and the number of cores."""
    return (*(2**power for power in range(cores.bit_length()) if 2**power < cores), cores)


@dataclass(frozen=True)
class Plan:
    """The sizes of all benchmarks.

    threads: numbers of threads, in ascending order. The matrix product is measured with each, the rest with the last.
    repetitions: the most repetitions of each case.
    matmul_size: the number of rows and of columns of the matrices.
    pipeline_size: the size in pixels to which the zoo's input pipeline resizes images.
    pipeline_batches: how many batches one repetition reads from an input pipeline.
    steps: the image size in pixels, the batch size and whether there is batch normalisation, for each training step:
        by default those of the recipes.
    amp_levels: the precisions that are measured.
    kernels: the libraries of kernels that are measured.
    evaluation_images: how many images one repetition evaluates.
    evaluation_batch_sizes: the batch sizes with which they are evaluated.
    changes: values that replace those of params.yaml, by section.
    """

    threads: tuple[int, ...]
    repetitions: int = 5
    matmul_size: int = 3072
    pipeline_size: int = 227
    pipeline_batches: int = 125
    steps: tuple[tuple[int, int, bool], ...] = (
        (67, 128, True),
        (99, 128, True),
        (147, 128, True),
        (227, 32, False),
    )
    amp_levels: tuple[AmpLevel, ...] = ("O0",)
    kernels: tuple[KernelLibrary, ...] = ("mindspore",)
    evaluation_images: int = 1000
    evaluation_batch_sizes: tuple[int, ...] = (100, 500)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)


QUICK = Plan(
    threads=(1,),
    repetitions=1,
    matmul_size=256,
    pipeline_size=67,
    pipeline_batches=2,
    steps=((67, 4, True),),
    evaluation_images=20,
    evaluation_batch_sizes=(10,),
    changes={"model": {"image_height": 67, "image_width": 67}, "train": {"batch_size": 4}},
)
"""The smallest cases, which only show that everything works. Their figures mean nothing."""


class Bench:
    """The benchmarks of a plan. Each of KINDS is a method that returns rows; its docstring is the title of the table.

    Args:
        plan: the sizes.
        params: the values of params.yaml, by section.
        folder: a folder for temporary files.
        torch_python: a Python with PyTorch, whose training step is measured too, or None.
        show: is called with the name of each case before it is measured.
    """

    def __init__(
        self,
        plan: Plan,
        params: dict[str, dict[str, Any]],
        folder: Path,
        torch_python: str | None,
        show: Callable[[str], None],
    ) -> None:
        self._plan, self._folder, self._torch_python, self._show = plan, folder, torch_python, show
        self._params = {section: values | plan.changes.get(section, {}) for section, values in params.items()}
        train = self._params["train"]
        self._threads = plan.threads[-1]
        self._model = self._params["model"] | {"weight_init": train["weight_init"]}
        self._recipe = {field.name: train[field.name] for field in fields(Recipe)}
        self._peaks: dict[tuple[AmpLevel, int], float] = {}

    def _run(self, module: str, case: str, **arguments: Any) -> Row:
        sizes = (f"{name} {value}" for name, value in arguments.items() if isinstance(value, int))
        self._show(", ".join((f"{module} {case}", *sizes)))
        return measure.run(module, case, repetitions=self._plan.repetitions, **arguments)

    def matmul(self) -> list[Row]:
        """Matrix product: the peak that training steps are compared with."""
        size, rows = self._plan.matmul_size, []
        for amp_level in self._plan.amp_levels:
            for threads in self._plan.threads:
                result = self._run("machine", "matmul", size=size, threads=threads, amp_level=amp_level)
                self._peaks[amp_level, threads] = 2 * size**3 / median(result["seconds"]) / 1e9
                row = {"amp_level": amp_level, "size": size, "threads": threads}
                rows.append(row | {"gflop_per_second": self._peaks[amp_level, threads]} | result)
        return rows

    def pipeline(self) -> list[Row]:
        """Input pipeline: ours, and one that resizes every image as the zoo's does."""
        plan, folder = self._plan, self._folder / "pipeline"
        dataset.write(folder, PIPELINE_IMAGES)
        rows: list[Row] = []
        for case, name, arguments in (
            ("zoo", f"zoo: crop, flip, resize to {plan.pipeline_size} px", {"image_size": plan.pipeline_size}),
            ("ours", "ours: crop, flip", {"dropout_rate": 0.0}),
            ("ours", "ours: crop, flip, dropout masks", {"dropout_rate": DROPOUT_RATE}),
            ("ours", "ours: every augmentation, dropout masks", {"dropout_rate": DROPOUT_RATE} | AUGMENTATIONS),
        ):
            result = self._run(
                "pipelines",
                case,
                folder=str(folder),
                batch_size=ZOO_BATCH_SIZE,
                batches=plan.pipeline_batches,
                **arguments,
            )
            speed = ZOO_BATCH_SIZE * plan.pipeline_batches / median(result["seconds"])
            zoo = rows[0]["images_per_second"] if rows else speed
            row = {"pipeline": name, "batch_size": ZOO_BATCH_SIZE, "images_per_second": speed, "times_zoo": speed / zoo}
            rows.append(row | result)
        return rows

    def step(self) -> list[Row]:
        """Training step alone, by kernels and precision, and in PyTorch if there is one."""
        if not self._peaks:
            self.matmul()
        threads, rows = self._threads, []
        for image_size, batch_size, batch_norm in self._plan.steps:
            sizes = {"image_size": image_size, "batch_size": batch_size, "batch_norm": batch_norm}
            model = {
                "name": "alexnet",
                "num_classes": NUM_CLASSES,
                "image_height": image_size,
                "image_width": image_size,
                "dropout_rate": 0.0,
                "batch_norm": batch_norm,
            }
            for amp_level in self._plan.amp_levels:
                torch = self._torch_step(sizes, amp_level)
                # MindSpore's kernels compute in float16 at O2, for which CPUs have no fast instructions.
                for kernels in self._plan.kernels if amp_level == "O0" else ("onednn",):
                    result = self._run(
                        "cases",
                        "step",
                        model=model,
                        recipe=STEP_RECIPE,
                        batch_size=batch_size,
                        threads=threads,
                        kernels=kernels,
                        amp_level=amp_level,
                    )
                    seconds = median(result["seconds"])
                    speed = training_pflop(NUM_CLASSES, image_size, image_size, batch_size) * 1e6 / seconds
                    row = {
                        **sizes,
                        "amp_level": amp_level,
                        "kernels": kernels,
                        "ms": 1000 * seconds,
                        "images_per_second": batch_size / seconds,
                        "share_of_peak": speed / self._peaks[amp_level, threads],
                        "memory_gb": result["memory_gb"],
                    }
                    if torch:
                        best = min(torch["torch_ms"], torch["channels_last_ms"])
                        row |= torch | {"times_torch": best / row["ms"]}
                    rows.append(row | {"seconds": result["seconds"]})
        return rows

    def _torch_step(self, sizes: Row, amp_level: AmpLevel) -> Row:
        # Returns the milliseconds of a step in PyTorch, in its default and in its channels_last memory format.
        row: Row = {}
        for name, channels_last in (("torch", False), ("channels_last", True)) if self._torch_python else ():
            result = self._run(
                "torch_step",
                "step",
                python=self._torch_python,
                threads=self._threads,
                amp_level=amp_level,
                channels_last=channels_last,
                **sizes,
                **STEP_RECIPE,
            )
            row |= {f"{name}_ms": 1000 * median(result["seconds"]), f"{name}_seconds": result["seconds"]}
        return row

    def evaluation(self) -> list[Row]:
        """Evaluation of the network of params.yaml, by kernels and batch size."""
        sizes = {"images": self._plan.evaluation_images, "threads": self._threads}
        rows = []
        for kernels in self._plan.kernels:
            for batch_size in self._plan.evaluation_batch_sizes:
                chosen = {"kernels": kernels, "amp_level": "O0"}
                result = self._run("cases", "evaluation", model=self._model, batch_size=batch_size, **sizes, **chosen)
                row = {"image_size": self._model["image_height"], "batch_size": batch_size, **sizes, **chosen}
                rows.append(row | {"images_per_second": sizes["images"] / median(result["seconds"])} | result)
        return rows

    def state(self) -> list[Row]:
        """Saving and loading the state of a training with params.yaml."""
        result = self._run("cases", "state", folder=str(self._folder / "state"), model=self._model, recipe=self._recipe)
        seconds = {f"{action}_s": median(result[f"{action}_seconds"]) for action in ("save", "load")}
        return [{"mb": result["mb"]} | seconds | result]

    def stage(self) -> list[Row]:
        """Stage train with params.yaml, and its overhead over the bare step."""
        sizes = {"batch_size": self._params["train"]["batch_size"], "threads": self._threads}
        params = self._params | {"train": self._params["train"] | {"threads": self._threads}}
        result = self._run("stage", "stage", folder=str(self._folder / "stage"), params=params)
        chosen = {name: self._params["train"][name] for name in ("kernels", "amp_level")}
        bare = self._run("cases", "step", model=self._model, recipe=self._recipe, **sizes, **chosen)
        bare_s = median(bare["seconds"])
        step_s, save_s = median(result["seconds"]), median(result["save_seconds"])
        steps = self._params["run"]["save_checkpoint_steps"]
        if steps == "epoch":
            steps = max(1, self._params["data"]["train_images"] // sizes["batch_size"])
        row = {
            "image_size": self._model["image_height"],
            **sizes,
            "bare_ms": 1000 * bare_s,
            "stage_ms": 1000 * step_s,
            "save_s": save_s,
            "steps_a_save": steps,
            "overhead_percent": 100 * ((step_s + save_s / steps) / bare_s - 1),
            "start_s": result["start_s"],
        }
        return [row | result | {"bare_seconds": bare["seconds"]}]


KINDS = {
    kind.__name__: kind
    for kind in (Bench.matmul, Bench.pipeline, Bench.step, Bench.evaluation, Bench.state, Bench.stage)
}
"""The benchmarks by name, in the order in which they are run."""
