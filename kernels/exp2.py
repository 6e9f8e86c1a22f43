"""2**x where MLX has no vector code for it: on the CPU."""

import mlx.core as mx

# The polynomial of the fifth degree that is 1 at 0 and nearest to 2**f on [-1/2, 1/2] in
# relative terms: to 1e-7. The highest power first.
_COEFFICIENTS = (
    1.3264721184e-3,
    9.6715127196e-3,
    5.5507337582e-2,
    2.4022242084e-1,
    6.9314697759e-1,
    1.0,
)
_ROUND = 1.5 * 2**23  # added to a float, it leaves the nearest integer in the lowest bits


def exp2(x: mx.array) -> mx.array:
    """2**x for x below 128; what is less than 2**-126 may come out as zero.

    On the CPU, MLX computes ``exp`` one number at a time, in 9 ns on the machine this was
    written on, and a power of two in 3; these products and sums take 1.5.

    Shapes:
        x: any, float32
    """
    if mx.default_device() != mx.cpu:
        return mx.power(2.0, x)
    x = mx.maximum(x, -127.0)  # whose power has all bits zero
    shifted = x + _ROUND
    fraction = x - (shifted - _ROUND)
    power = fraction * _COEFFICIENTS[0] + _COEFFICIENTS[1]
    for coefficient in _COEFFICIENTS[2:]:
        power = power * fraction + coefficient
    # The integer part is added to the exponent.
    return (power.view(mx.int32) + (shifted.view(mx.int32) << 23)).view(mx.float32)
