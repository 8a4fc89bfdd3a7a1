"""The recipe: what turns gradients into a trained network, each value with its source."""

from dataclasses import dataclass

from alexnet.training.schedule import Schedule


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults of all but the first two are the model zoo's, which has none of these.

    learning_rate: the highest of the schedule.
    momentum: share of the last update in the next, as `nn.Momentum` has it.
    use_nesterov: the gradient is taken as if the momentum had been applied already (I. Sutskever, J. Martens, G.
        Dahl, G. Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013).
    weight_decay: times a weight, added to its gradient (Krizhevsky et al. 2012, section 5, have 0.0005); biases and
        batch normalisation go without.
    label_smoothing: share of the target that is spread evenly over all classes (C. Szegedy et al., arXiv 1512.00567,
        section 7).
    lr_schedule, warmup_ratio: see `alexnet.training.schedule`.
    ema_decay: share of the old value in each step's exponential moving average of the weights and of batch
        normalisation's statistics (B. T. Polyak, A. B. Juditsky 1992; the form of arXiv 1512.00567, section 8). The
        averages are what is validated and returned; 0 for none.
    """

    learning_rate: float
    momentum: float
    use_nesterov: bool = False
    weight_decay: float = 0
    label_smoothing: float = 0
    lr_schedule: Schedule = "constant"
    warmup_ratio: float = 0
    ema_decay: float = 0
