"""How the weights of a network are initialised."""

from typing import Any

from mindspore.common.initializer import HeNormal

from alexnet.runtime.choices import WeightInit


def initializers(weight_init: WeightInit) -> dict[str, Any]:
    """Return `weight_init` and `bias_init` of `nn.Conv2d` and `nn.Dense`, or nothing for MindSpore's own.

    The layers draw their values when they are made, so set the seed before (`mindspore.set_seed`).

    Args:
        weight_init: `default` initialises as MindSpore's layers do, `HeNormal` as in K. He et al., arXiv 1502.01852,
            section 2.2, for layers that a ReLU follows, with biases of 0.
    """
    return {"weight_init": HeNormal(nonlinearity="relu"), "bias_init": "zeros"} if weight_init == "HeNormal" else {}
