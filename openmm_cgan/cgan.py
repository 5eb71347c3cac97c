"""The conditional GAN: critic and losses, the training loop, and the trained artefact.

WGAN-GP [1]_ conditioned on collective variables, as in "GANs and Closures" [2]_: the generator
turns noise and CVs into features of a configuration, the critic judges features beside their CVs.

References
----------
.. [1] I. Gulrajani et al., Advances in Neural Information Processing Systems 30 (2017),
   arXiv 1704.00028.
.. [2] E. R. Crabtree, J. M. Bello-Rivas, A. L. Ferguson, I. G. Kevrekidis, Multiscale Model. Simul.
   21, 1122 (2023), doi 10.1137/22M1517834.
"""

import hashlib
import io
import json
import logging
import math
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from openmm_cgan import __version__
from openmm_cgan.features import Features
from openmm_cgan.frames import Frames, read_frames, topology_hash
from openmm_cgan.generators import KINDS, MLPGenerator, perceptron
from openmm_cgan.internal_coordinates import ZMatrix
from openmm_cgan.plumed.colvar import CollectiveVariable
