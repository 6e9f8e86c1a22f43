"""2**x from operations that MLX has vector code for on the CPU."""

import mlx.core as mx

# The polynomial of degree 5 that is 1 at 0 and has the least relative error on [-1/2, 1/2]:
# 1e-7. The highest power first.
_COEFFICIENTS = (
    1.3264721184e-3,
    9.6715127196e-3,
    5.5507337582e-2,
    2.4022242084e-1,
    6.9314697759e-1,
    1.0,
)
_ROUND = 1.5 * 2**23  # a float plus this has the nearest integer in its lowest bits


def exp2(x: mx.array) -> mx.array:
    """2**x for x below 128; a result below 2**-126 may be zero.

    On the CPU, MLX computes ``exp`` one number at a time, in 9 ns on the machine where this was
    written, and a power of two in 3 ns; these products and sums take 1.5 ns.

    Shapes:
        x: any, float32
    """
    if mx.default_device() != mx.cpu:
        return mx.power(2.0, x)
    x = mx.maximum(x, -127.0)  # the bits of that power are all zero
    shifted = x + _ROUND
    fraction = x - (shifted - _ROUND)
    power = fraction * _COEFFICIENTS[0] + _COEFFICIENTS[1]
    for coefficient in _COEFFICIENTS[2:]:
        power = power * fraction + coefficient
    # Add the integer part to the exponent.
    return (power.view(mx.int32) + (shifted.view(mx.int32) << 23)).view(mx.float32)
