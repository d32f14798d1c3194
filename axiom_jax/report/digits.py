"""scikit-learn's handwritten digits: 1797 real 8 by 8 images that come inside the package."""

from dataclasses import dataclass

import numpy as np

from axiom_jax._errors import AxiomError

SIDE, CLASSES = 8, 10
SOURCE = "scikit-learn digits, train_test_split(test_size=0.3, random_state=0, stratify=target), pixels / 16"


@dataclass(frozen=True, eq=False)
class Digits:
    """A fixed split.

    Args:
        x_train, x_test: (images, 64) float32 in [0, 1], multiples of 1/16; 1 is ink.
        y_train, y_test: (images,) int32, the digit.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load_digits() -> Digits:
    """The images, 30 % of them for testing.

    Raises:
        AxiomError: scikit-learn is not installed.

    Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI.

    >>> load_digits().x_test.shape
    (540, 64)
    """
    try:
        from sklearn.datasets import load_digits as load
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise AxiomError(
            "The demo needs scikit-learn, which has the images.", got=str(error), fix="pip install 'axiom-jax[demo]'"
        ) from error
    x, y = load(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)
    x_train, x_test, y_train, y_test = map(
        np.asarray, train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    )
    return Digits(x_train, y_train, x_test, y_test)
