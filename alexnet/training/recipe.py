"""The recipe: the hyperparameters that decide how gradients update the weights, with their sources."""

from dataclasses import dataclass

from alexnet.training.schedule import Schedule


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are those of plain SGD with momentum and a constant learning rate.

    learning_rate: the highest learning rate of the schedule.
    momentum: the momentum of `nn.Momentum`, at least 0 and below 1.
    use_nesterov: whether to use Nesterov's momentum (I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance
        of initialization and momentum in deep learning", ICML 2013).
    weight_decay: the factor by which a weight is multiplied before it is added to its gradient (Krizhevsky et al. 2012,
        section 5, use 0.0005). Biases and the parameters of batch normalisation do not decay.
    batch_norm_bias_lr_factor: the learning rate of batch normalisation's biases (beta) is this many times that of all
        other parameters (K. Jordan, arXiv 2404.00498, section 3.4, where it is 64).
    label_smoothing: the share of the target that is spread evenly over all classes (C. Szegedy et al., arXiv
        1512.00567, section 7).
    lr_schedule: how the learning rate changes, see `alexnet.training.schedule.learning_rates`.
    warmup_ratio: the share of all steps in which the learning rate first rises, see the same function.
    ema_decay: the share of the old value in each update of the exponential moving average of the weights and of batch
        normalisation's statistics (B. T. Polyak, A. B. Juditsky 1992; used like this in arXiv 1512.00567, section 8).
        Validation uses the averages, and they replace the weights after the training. 0 uses no averages.
    """

    learning_rate: float
    momentum: float
    use_nesterov: bool = False
    weight_decay: float = 0
    batch_norm_bias_lr_factor: float = 1
    label_smoothing: float = 0
    lr_schedule: Schedule = "constant"
    warmup_ratio: float = 0
    ema_decay: float = 0
