"""What is computed of each example: the loss, the error, and what a user's own code measures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.loss_names import IN_NATS, OF_CLASSES, Mean
from pipeline.problem import losses, means, targets
from pipeline.problem.forward import Inputs, forwarded, mapped
from pipeline.problem.losses import BUILT_IN, LossError, LossFunction, Options
from pipeline.problem.means import Values
from pipeline.problem.outputs import Key, OutputError, key_of, part, tensors_of

Function = Callable[..., Any]

_LOSS = "evaluate.loss"


@dataclass(frozen=True)
class Criterion:
    """A loss, what comes with it, and how both are averaged.

    Attributes:
        name: of the loss: a built-in one, or what the user calls it.
        function: a user's own loss, or the built-in one.
        options: of cross-entropy and nll.
        mean: over examples, or over the positions (tokens) in them.
        output: which part of what the network returns is its output; None for all of it.
        metrics: quantities of the user's own: outputs, targets → one value an example.
        is_weighed: whether positions of class targets count differently, or are smoothed.
        heard: called with outputs and targets of every chunk, in order.
    """

    name: str
    function: Function
    options: Options = field(default_factory=Options)
    mean: Mean = "example"
    output: Key | None = None
    metrics: Mapping[str, Function] = field(default_factory=dict)
    is_weighed: bool = False
    heard: Callable[[Tensor, Tensor], None] | None = None

    @property
    def is_built_in(self) -> bool:
        return self.name in BUILT_IN

    @property
    def has_classes(self) -> bool:
        """Whether targets are classes."""
        return self.name in OF_CLASSES

    @property
    def is_plain_cross_entropy(self) -> bool:
        """Whether rows of outputs are all there is to compute, each by itself."""
        is_plain = self.name == "cross_entropy" and not self.is_weighed
        return is_plain and not self.metrics and self.heard is None

    @cached_property
    def takes_network(self) -> bool:
        """Whether it is a user's loss f(network, inputs, targets).

        Raises:
            LossError: it takes neither two nor three arguments.
        """
        return not self.is_built_in and _arguments(self.function, _LOSS) == 3

    def fitted(
        self, returned: Any, wanted: Tensor, count: int, split: str
    ) -> tuple[Criterion, Tensor]:
        """The criterion that knows a split, and the split's targets as the loss wants them.

        Args:
            returned: what the network gives for some examples.
            wanted: targets (n, …) of the whole split.
            count: of those examples.
            split: its name, for messages.

        Raises:
            OutputError: what is returned has no part that is the output, or several.
            LossError: the targets do not fit the outputs.
        """
        if not self.is_built_in:
            return self, wanted
        key = key_of(returned, count, split) if self.output is None else self.output
        outputs, options = part(returned, key), self.options
        if not outputs.ndim or len(outputs) != count:
            raise OutputError(
                f"the network gives {tuple(outputs.shape)} for {count} examples of data split "
                f"{split}; wanted one tensor with a row an example. Check forward, or use "
                "evaluate.loss: file.py:callable"
            )
        if outputs.is_complex() and self.name in IN_NATS:
            raise LossError(
                f"the network gives complex outputs {tuple(outputs.shape)}, which {self.name} "
                "cannot take; wanted real ones. Use mse, l1 or huber, or return their modulus"
            )
        wanted = targets.fitted(wanted, outputs.shape, self.name, split, options)
        is_weighed = self.has_classes and (
            options.class_weights is not None
            or options.label_smoothing > 0
            or targets.ignored(wanted, options) > 0
        )
        return replace(self, output=key, is_weighed=self.is_weighed or is_weighed), wanted

    def evaluated(
        self, network: nn.Module, inputs: Inputs, wanted: Tensor, split: str
    ) -> tuple[dict[str, Values], list[Tensor]]:
        """The quantities of a whole split the plain way, and all tensors that the network gives.

        A loss that calls the network itself has its values in place of those tensors.
        """
        forward = partial(forwarded, network)
        if self.takes_network:
            found = self.of_network(network, forward, inputs, wanted)
            return found, [values.sums.detach() for values in found.values()]
        returned = forward(inputs)
        own, wanted = self.fitted(returned, wanted, len(wanted), split)
        found = own.of_outputs(own.outputs(returned), wanted, ())
        return found, tensors_of(returned) or [values.sums for values in found.values()]

    def outputs(self, returned: Any) -> Any:
        """What loss and metrics take of what a network returned.

        A user's own loss takes all of it, unless the spec names the output.
        """
        if self.output is None and not self.is_built_in:
            return returned
        return part(returned, self.output)

    def of_outputs(self, outputs: Any, wanted: Tensor, names: Collection[str]) -> dict[str, Values]:
        """The quantities of a chunk, (n,) each; a standard error needs all chunks' losses.

        Args:
            outputs: what `outputs` gives.
            wanted: `fitted` targets.
            names: the quantities asked for; `error` is computed only where it is among them.

        Raises:
            LossError: a user's function gives something else than values.
        """
        if self.heard is not None:
            self.heard(outputs, wanted)
        if self.is_built_in:
            found = {"loss": self._built_in(outputs, wanted)}
        else:
            found = _values(self.function(outputs, wanted))
        if "error" in names:
            found["error"] = self._errors(outputs, wanted)
        return found | self._measured(outputs, wanted)

    def of_network(
        self,
        network: nn.Module,
        forward: Callable[[Inputs], Any],
        inputs: Inputs,
        wanted: Tensor,
    ) -> dict[str, Values]:
        """The same of a loss f(network, inputs, targets), which may differentiate by the inputs.

        Args:
            network: what the loss calls.
            forward: inputs → outputs, for metrics.
            inputs, wanted: of a chunk.
        """
        with torch.inference_mode(False), torch.enable_grad():
            given = mapped(inputs, _differentiable)
            found = _values(self.function(network, given, wanted))
        if self.metrics:
            found |= self._measured(forward(inputs), wanted)
        return found

    def of_batch(self, network: nn.Module, inputs: Inputs, wanted: Tensor) -> Tensor:
        """The mean loss of a batch, for training."""
        if self.takes_network:
            own = self.function(network, mapped(inputs, _differentiable), wanted)
        else:
            outputs = self.outputs(forwarded(network, inputs))
            if self.is_built_in:
                return means.of_batch(self._built_in(outputs, wanted), self.mean)
            own = self.function(outputs, wanted)
        return _named(own)["loss"].mean()

    def _built_in(self, outputs: Tensor, wanted: Tensor) -> Values:
        if self.is_weighed:
            are_logits = self.name == "cross_entropy"
            return losses.of_positions(outputs, wanted, self.options, are_logits)
        return Values(self.function(outputs, wanted).double())

    def _errors(self, outputs: Any, wanted: Tensor) -> Values:
        if self.name == "bce_with_logits":
            return Values(losses.on_the_wrong_side(outputs, wanted))
        if self.is_weighed:
            return losses.misclassified_positions(outputs, wanted, self.options.ignore_index)
        return Values(losses.misclassified(outputs, wanted))

    def _measured(self, outputs: Any, wanted: Tensor) -> dict[str, Values]:
        return {
            name: Values(_tensor(metric(outputs, wanted), f"evaluate.metrics.{name}").double())
            for name, metric in self.metrics.items()
        }


def criterion_of(loss: LossFunction | Criterion) -> Criterion:
    """The criterion of a loss alone; one that is a criterion already stays as it is."""
    if isinstance(loss, Criterion):
        return loss
    name = next((name for name, own in BUILT_IN.items() if own is loss), None)
    return Criterion(name or str(getattr(loss, "__name__", "a loss of your own")), loss)


def named(name: str, own: Function | None = None) -> Criterion:
    """The criterion of the loss that a spec names: a built-in one, or else the user's `own`.

    Raises:
        LossError: the name is unknown and there is no function of the user's.
    """
    if own is not None:
        return Criterion(name, own)
    if name not in BUILT_IN:
        raise LossError(
            f"evaluate.loss is {name!r}; wanted {', '.join(BUILT_IN)} or path/file.py:callable"
        )
    return Criterion(name, BUILT_IN[name])


def _differentiable(each: Tensor) -> Tensor:
    """A leaf of a new graph; whole numbers have no derivatives."""
    is_smooth = each.is_floating_point() or each.is_complex()
    return each.detach().requires_grad_() if is_smooth else each


def _arguments(function: Function, what: str) -> int:
    """How many arguments a user's function takes: two or three.

    Raises:
        LossError: it takes another number.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return 2
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [each for each in parameters if each.kind in kinds]
    required = [each for each in places if each.default is each.empty]
    lists = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    if len(required) == 3:
        return 3
    if len(required) == 2 or (len(required) < 2 and (lists or len(places) > 1)):
        return 2
    shown = ", ".join(each.name for each in parameters) or "nothing"
    raise LossError(
        f"{what} takes {shown}; wanted a function of (outputs, targets), or of (network, inputs, "
        "targets). Give the others defaults"
    )


def _values(given: Any) -> dict[str, Values]:
    return {name: Values(each.double()) for name, each in _named(given).items()}


def _named(given: Any) -> dict[str, Tensor]:
    """The quantities that a user's loss returned: a tensor, or several by name."""
    if isinstance(given, Tensor):
        return {"loss": given}
    if not isinstance(given, Mapping):
        raise LossError(
            f"{_LOSS} returns {type(given).__name__}; wanted a tensor (n,), or a dict of them"
        )
    if "loss" not in given:
        names = ", ".join(map(str, given)) or "nothing"
        raise LossError(
            f"{_LOSS} returns {names}; wanted loss among them. Add it, perhaps as their sum"
        )
    return {str(name): _tensor(each, f"{_LOSS}: {name}") for name, each in given.items()}


def _tensor(given: Any, what: str) -> Tensor:
    if not isinstance(given, Tensor):
        raise LossError(
            f"{what} is {type(given).__name__}; wanted a tensor (n,), one value an example"
        )
    return given
