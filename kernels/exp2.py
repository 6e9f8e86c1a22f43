"""2**x where MLX has no vector code for it: on the CPU."""

import mlx.core as mx

# 2**f on [-1/2, 1/2] to 1e-7, the highest power first: the coefficients of Cephes' exp2f.
_COEFFICIENTS = (
    1.535336188319500e-4,
    1.339887440266574e-3,
    9.618437357674640e-3,
    5.550332471162809e-2,
    2.402264791363012e-1,
    6.931472028550421e-1,
    1.0,
)
_ROUND = 1.5 * 2**23  # added to a float, it leaves the nearest integer in the lowest bits
_SMALL = 1 << 15  # numbers; for fewer, so many operations are no faster than one slow one


def exp2(x: mx.array) -> mx.array:
    """2**x for x below 128; what is less than 2**-126 may come out as zero.

    On the CPU, MLX computes ``exp`` one number at a time, in 9 ns on the machine this was
    written on, and a power of two in 3; these products and sums take 1.7.

    Shapes:
        x: any, float32
    """
    if x.size < _SMALL or mx.default_device() != mx.cpu:
        return mx.power(2.0, x)
    x = mx.maximum(x, -127.0)  # whose power has all bits zero
    shifted = x + _ROUND
    fraction = x - (shifted - _ROUND)
    power = fraction * _COEFFICIENTS[0] + _COEFFICIENTS[1]
    for coefficient in _COEFFICIENTS[2:]:
        power = power * fraction + coefficient
    # The integer part is added to the exponent.
    return (power.view(mx.int32) + (shifted.view(mx.int32) << 23)).view(mx.float32)
