"""Several processes that work as one, as torchrun starts them.

Every process has an equal part of each batch and a share of the cases. What depends on all of it,
the loss and the scores, every process computes from everybody's numbers, so that all of them take
the same steps and decisions. Only the first one writes files and talks.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from swin_unet.config import UserError

T = TypeVar("T")

# A step takes seconds; waiting for another process to fill the cache may take hours.
STEP_TIMEOUT = timedelta(minutes=30)
WAIT_TIMEOUT = timedelta(hours=24)
EXIT_FAILED = 2
_ENDED = UserError(
    "torchrun",
    expected="all processes of the job to run to its end",
    found="that one ended before, or that the job was cancelled",
    fix="See the other messages and torchrun's report of the first failure, mend it and start "
    "again, train.py with --resume auto.",
)
# What torch says when a process that it talks to is gone; it has no exception of its own for it.
_LOST = re.compile(r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe|recvValue", re.I)


@dataclass(frozen=True)
class World:
    """The processes of a job, seen from one of them; one process alone unless told otherwise.

    Attributes:
        rank: Number of this process, the first is 0.
        size: Number of processes.
        local_rank: Number of this process on its machine.
        local_size: Number of processes on this machine.
        group: Talks about what is in main memory, with patience; None: alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes and talks."""
        return self.rank == 0

    def total(self, sums: Tensor) -> Tensor:
        """Add up the tensors of all processes; differentiable, see `_Total`."""
        if self.size == 1:
            return sums
        total: Tensor = _Total.apply(sums, self.size)
        return total

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their numbers."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def merge(self, share: Sequence[T]) -> list[T]:
        """Return the results of all processes in the order of the items that `shard` dealt out."""
        return merge_shards(self.gather(list(share)))

    def shard(self, items: Sequence[T]) -> list[T]:
        """Return this process's share of the items."""
        return shard(items, self.rank, self.size)

    def turns(self, items: Sequence[T]) -> list[T | None]:
        """Return this process's share, filled up with None: as many turns in every process."""
        num_turns = -(-len(items) // self.size)
        share = self.shard(items)
        return [*share, *[None] * (num_turns - len(share))]

    def anywhere(self, *flags: bool) -> tuple[bool, ...]:
        """Tell for every flag whether it is set in any process: decisions that all must share."""
        if self.size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self.group)
        return tuple(bool(vote) for vote in votes)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.anywhere(False)

    @contextmanager
    def first_of_machine_first(self) -> Iterator[None]:
        """Let one process of each machine run the block before the others, to find it done."""
        if self.local_rank > 0:
            self.wait()
        yield
        if self.local_rank == 0:
            self.wait()

    def parallel(self, module: nn.Module) -> nn.Module:
        """Wrap a module so that its gradients are the mean over all processes.

        Raises:
            UserError: For batch norm on CPUs, where its statistics cannot be those of the batch.
        """
        if self.size == 1:
            return module
        device = next(module.parameters()).device
        if any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in module.modules()):
            if device.type == "cpu":
                raise UserError(
                    "model.name",
                    expected="a network without batch norm for several processes on CPUs",
                    found="one with it",
                    fix="Use one process, GPUs, or another network.",
                )
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        lay_out_gradients(module)
        device_ids = None if device.type == "cpu" else [device]
        return nn.parallel.DistributedDataParallel(module, device_ids=device_ids)


ALONE = World()


def lay_out_gradients(module: nn.Module) -> None:
    """Let gradients have the strides of their parameters, or torch warns in every process.

    The kernels of a convolution whose input has its channels last may give the axes of length 1
    of their gradient, as the head has them, other strides than a tensor of its own has.
    """
    for parameter in module.parameters():
        if 1 in parameter.shape:
            parameter.register_hook(lambda gradient: gradient.flatten().view(gradient.shape))


class _Total(torch.autograd.Function):
    """Sum over processes.

    Every process computes the same loss from the total and sends back the same gradient. As
    DistributedDataParallel takes the mean of the parameters' gradients over the processes, while
    that of the whole batch is their sum, each gets its gradient times their number.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor, size: int) -> Tensor:
        ctx.size = size
        total = sums.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.size, None


def shard(items: Sequence[T], rank: int, size: int) -> list[T]:
    """Deal out items: every one to exactly one process, in turn."""
    return list(items[rank::size])


def merge_shards(shards: Sequence[Sequence[T]]) -> list[T]:
    """Put what `shard` dealt out back into its order."""
    merged: list[Any] = [None] * sum(len(share) for share in shards)
    for rank, share in enumerate(shards):
        merged[rank :: len(shards)] = share
    return merged


def read_world(environment: Mapping[str, str]) -> World:
    """Read from the environment which of torchrun's processes this is; without torchrun, alone."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return ALONE
    rank, size, local_rank, local_size = (
        int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    return World(rank, size, local_rank, local_size)


def choose_own_device(name: str, world: World) -> str:
    """Give each process of a machine its own GPU, where `name` means GPUs.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.
        world: The processes.

    Returns:
        Such a name.

    Raises:
        UserError: For `cuda:N`, or for more processes than GPUs.
    """
    if world.size == 1 or name == "cpu" or not torch.cuda.is_available():
        return name
    if name not in ("auto", "cuda"):
        raise UserError(
            "device",
            expected="auto, cpu or cuda for several processes",
            found=name,
            fix="Every process takes a GPU of its own; CUDA_VISIBLE_DEVICES chooses which.",
        )
    num_gpus = torch.cuda.device_count()
    if world.local_size > num_gpus:
        raise UserError(
            "--nproc_per_node",
            expected=f"at most {num_gpus}, the number of GPUs",
            found=str(world.local_size),
            fix="Start fewer processes, or choose device cpu.",
        )
    torch.cuda.set_device(world.local_rank)
    return f"cuda:{world.local_rank}"


@contextmanager
def joined() -> Iterator[World]:
    """Join the other processes that torchrun started, and part from them at the end.

    A failure that the user can mend is told by one process, however many meet it. So is the end
    of another process, which ends this one.

    Yields:
        The processes; this one alone without torchrun.

    Raises:
        SystemExit: In a job, for a UserError and when another process ended before its time.
    """
    world = read_world(os.environ)
    if world.size == 1:
        yield world
        return
    store, *_ = next(dist.rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend, store=store, rank=world.rank, world_size=world.size, timeout=STEP_TIMEOUT
    )
    with _told_once(store), _terminable():
        group = dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
        yield World(world.rank, world.size, world.local_rank, world.local_size, group)
        dist.destroy_process_group()  # not after an error: the others may be gone


class _TerminatedError(Exception):
    """SIGTERM came: torchrun ends a job when one of its processes has ended."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise, so that this process can say why it ends."""

    def end(number: int, frame: Any) -> NoReturn:
        raise _TerminatedError

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # let this process tell what it has met
        raise
    signal.signal(signal.SIGTERM, previous)


@contextmanager
def _told_once(store: dist.Store) -> Iterator[None]:
    """Let only the first process that fails tell why; all that fail end with exit code 2."""
    try:
        yield
    except (UserError, _TerminatedError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _LOST.search(str(error)):
            raise
        if not _is_repeated(store):
            print(f"error: {error if isinstance(error, UserError) else _ENDED}", file=sys.stderr)
        raise SystemExit(EXIT_FAILED) from error


def _is_repeated(store: dist.Store) -> bool:
    """Tell whether another process has failed and said so."""
    try:
        return store.add("failures told", 1) > 1
    except RuntimeError:  # the machine of the store is gone
        return False
