"""Training of a model on a dataset version, evaluation, prediction.

    python -m train.run      --data build/ultimate --recipe logmel_cnn
    python -m train.evaluate --run RUN --data build/ultimate --split test
    python -m train.predict  --run RUN song.wav

Imports augment and datasets only.
"""

import tutti  # noqa: F401  makes the short name mean the full one
