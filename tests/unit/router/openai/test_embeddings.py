import base64
import math
from array import array

import pytest

from tristrata.router.openai.embeddings import VectorsInvalid, require_vectors


def encoded(*numbers: float) -> str:
    return base64.b64encode(array("f", numbers)).decode()


GOOD = encoded(0.6, 0.8)


def test_require_vectors__as_many_as_were_asked_for_of_length_one__passes() -> None:
    require_vectors(2, [GOOD, encoded(1.0, 0.0)])


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([GOOD], "1 vectors for 2 inputs"),
        ([GOOD, GOOD, GOOD], "3 vectors for 2 inputs"),
        ([GOOD, encoded(0.6, 0.9)], "length 1.082"),
        ([GOOD, encoded(0.0, 0.0)], "length 0.000"),
        ([GOOD, encoded(math.nan, 1.0)], "length nan"),
        ([GOOD, encoded(math.inf, 1.0)], "length inf"),
        ([GOOD, encoded()], "length 0.000"),
        ([GOOD, encoded(1.0)], r"\[1, 2\] dimensions"),
        ([GOOD, "no base64!"], "not float32 in base64"),
        ([GOOD, base64.b64encode(b"abc").decode()], "not float32 in base64"),
    ],
)
def test_require_vectors__anything_else__is_refused(texts: list[str], why: str) -> None:
    with pytest.raises(VectorsInvalid, match=why):
        require_vectors(2, texts)
