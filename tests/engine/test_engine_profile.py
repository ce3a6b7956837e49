import pytest

from samebox.core.errors import SameboxError
from samebox.engine.profile import Profile


@pytest.mark.parametrize("height", [(2, 1, 3), (1, 4, 3), (0, 1, 2), (1, 2), (3, 2, 1)])
def test_a_profile_out_of_order_is_an_error(height):
    with pytest.raises(SameboxError, match=r"profile\.height=\[.*\]: give \[min, opt, max\]"):
        Profile(batch=(1, 1, 1), height=height, width=(1, 1, 1))
