// Metal's functions of float, exact or with the error that the specification allows.
//
// Tables 8.1 (precise) and 8.2 (fast) of the Metal Shading Language Specification 4.1: a largest
// error in units in the last place, an absolute one, or a formula that the function "is
// implemented as". Without a prefix, a function is the fast one: MLX sets the math mode, and on
// macOS 15 and newer not the variant of the functions.
#include <cmath>
#include <cstring>
#include "machine.h"

namespace emulator {

uint32_t accuracy;  // the mode of this launch: Launch::accuracy

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// -1 to 1: the share of the allowed error that a result has.
static double direction(Function f, float x, float y) {
  if (accuracy == 1) return 1;
  if (accuracy == 2) return -1;
  uint64_t hash = (uint64_t(bits_of(x)) << 32 | bits_of(y)) + unsigned(f) + accuracy;
  for (int i = 0; i < 3; i++) hash = (hash ^ hash >> 31) * 0x9E3779B97F4A7C15u;
  return double(int64_t(hash)) * 0x1p-63;
}

// The result with its error; a subnormal one is zero. Rounding adds half a unit, so that is left.
static float wrong(double right, double ulps, double absolute, double towards) {
  if (!std::isfinite(right) || (right == 0 && absolute == 0)) return float(right);
  const double ulp = right == 0 ? 0 : std::ldexp(1.0, std::ilogb(right) - 23);
  const double error = std::fmax((absolute > 0 ? absolute : ulps * ulp) - 0.5 * ulp, 0);
  const double result = right + towards * error;
  return std::fabs(result) < 0x1p-126 ? 0.0f : float(result);
}

// What the C library computes: in float, or in double, which is exact enough.
template <class T>
static T computed(Function f, T x, T y) {
  switch (f) {
    case Function::exp: return std::exp(x);
    case Function::exp2: return std::exp2(x);
    case Function::exp10: return std::pow(T(10), x);
    case Function::log: return std::log(x);
    case Function::log2: return std::log2(x);
    case Function::log10: return std::log10(x);
    case Function::sin: return std::sin(x);
    case Function::cos: return std::cos(x);
    case Function::tan: return std::tan(x);
    case Function::sinh: return std::sinh(x);
    case Function::cosh: return std::cosh(x);
    case Function::tanh: return std::tanh(x);
    case Function::sqrt: return std::sqrt(x);
    case Function::rsqrt: return 1 / std::sqrt(x);
    case Function::pow: return std::pow(x, y);
    case Function::divide: return x / y;
  }
  return NAN;
}

static float fast(Function f, float x, float y) {
  const auto call = [](Function g, float a) { return evaluate(g, false, a, 0); };
  const bool is_near_one = x >= 0.5f && x <= 2.0f;
  double ulps = 0, absolute = 0;
  switch (f) {
    case Function::exp:
    case Function::exp2: ulps = 3 + std::floor(std::fabs(2 * double(x))); break;
    case Function::log:
      if (is_near_one) absolute = 0x1p-21;
      else ulps = 3;
      break;
    case Function::log2:
      if (is_near_one) absolute = 0x1p-22;
      else ulps = 2;
      break;
    case Function::sin:
    case Function::cos: absolute = 0x1p-13; break;
    case Function::rsqrt: ulps = 2; break;
    case Function::divide: ulps = 2.5; break;
    case Function::exp10: return call(Function::exp2, x * 3.32192809f);
    case Function::log10: return call(Function::log2, x) * 0.301029996f;
    case Function::tan: return call(Function::sin, x) * (1.0f / call(Function::cos, x));
    case Function::sinh: return 0.5f * (call(Function::exp, x) - call(Function::exp, -x));
    case Function::cosh: return 0.5f * (call(Function::exp, x) + call(Function::exp, -x));
    case Function::tanh: {
      const float t = call(Function::exp, 2 * x);
      return (t - 1) / (t + 1);
    }
    case Function::sqrt: return x == 0 || std::isinf(x) ? x : x * call(Function::rsqrt, x);
    case Function::pow: return call(Function::exp2, y * call(Function::log2, x));
  }
  return wrong(computed<double>(f, x, y), ulps, absolute, direction(f, x, y));
}

static double precise_ulps(Function f) {
  switch (f) {
    case Function::sqrt:
    case Function::rsqrt:
    case Function::divide: return 0.5;  // correctly rounded
    case Function::tan: return 6;
    case Function::tanh: return 5;
    case Function::pow: return 16;
    default: return 4;
  }
}

float evaluate(Function f, bool is_precise, float x, float y) {
  if (std::fabs(x) < 0x1p-126f) x = std::copysign(0.0f, x);
  if (accuracy == 0) return computed<float>(f, x, y);
  if (!is_precise) return fast(f, x, y);
  return wrong(computed<double>(f, x, y), precise_ulps(f), 0, direction(f, x, y));
}

}  // namespace emulator
