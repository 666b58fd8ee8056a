"""Optimizers and learning-rate schedules, as `torch.optim` has them."""

from tapegrad.optim import lr_scheduler, swa_utils
from tapegrad.optim.adagrad import Adadelta, Adagrad
from tapegrad.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from tapegrad.optim.lbfgs import LBFGS
from tapegrad.optim.optimizer import Optimizer
from tapegrad.optim.rmsprop import RMSprop, Rprop
from tapegrad.optim.sgd import ASGD, SGD
