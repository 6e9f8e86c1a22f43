// Metal's mathematics on float, half, bfloat and their vectors. No double anywhere.
#pragma once
#include "metal_types.h"
#include "runtime.h"

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define MAXFLOAT FLT_MAX
#define M_PI_F 3.14159265358979323846f
#define M_E_F 2.71828182845904523536f

namespace metal {

template <class T>
inline constexpr bool is_float = std::is_same_v<T, float> || std::is_same_v<T, half> ||
                                 std::is_same_v<T, bfloat>;

// A function of one float: 16-bit floats compute in float32, vectors element by element.
#define METAL_FUNCTION_1(name, expression)                                                     \
  inline float name(float x) { return expression; }                                            \
  template <class F>                                                                           \
  inline Float16<F> name(Float16<F> x) { return Float16<F>(name(float(x))); }                  \
  template <class T, int N>                                                                    \
  inline vec<T, N> name(vec<T, N> v) { return each(v, [](T x) { return name(x); }); }
#define METAL_FUNCTION_2(name, expression)                                                     \
  inline float name(float x, float y) { return expression; }                                   \
  template <class F>                                                                           \
  inline Float16<F> name(Float16<F> x, Float16<F> y) {                                         \
    return Float16<F>(name(float(x), float(y)));                                               \
  }
#define METAL_EVALUATE(name, is_precise, ...) \
  emulator::evaluate(emulator::Function::name, is_precise, __VA_ARGS__)
#define METAL_TRANSCENDENTAL(is_precise)                                      \
  METAL_FUNCTION_1(exp, METAL_EVALUATE(exp, is_precise, x))       \
  METAL_FUNCTION_1(exp2, METAL_EVALUATE(exp2, is_precise, x))     \
  METAL_FUNCTION_1(exp10, METAL_EVALUATE(exp10, is_precise, x))   \
  METAL_FUNCTION_1(log, METAL_EVALUATE(log, is_precise, x))       \
  METAL_FUNCTION_1(log2, METAL_EVALUATE(log2, is_precise, x))     \
  METAL_FUNCTION_1(log10, METAL_EVALUATE(log10, is_precise, x))   \
  METAL_FUNCTION_1(sin, METAL_EVALUATE(sin, is_precise, x))       \
  METAL_FUNCTION_1(cos, METAL_EVALUATE(cos, is_precise, x))       \
  METAL_FUNCTION_1(tan, METAL_EVALUATE(tan, is_precise, x))       \
  METAL_FUNCTION_1(tanh, METAL_EVALUATE(tanh, is_precise, x))     \
  METAL_FUNCTION_1(sinh, METAL_EVALUATE(sinh, is_precise, x))     \
  METAL_FUNCTION_1(cosh, METAL_EVALUATE(cosh, is_precise, x))     \
  METAL_FUNCTION_1(sqrt, METAL_EVALUATE(sqrt, is_precise, x))     \
  METAL_FUNCTION_1(rsqrt, METAL_EVALUATE(rsqrt, is_precise, x))   \
  METAL_FUNCTION_1(fabs, __builtin_fabsf(x))                      \
  METAL_FUNCTION_1(floor, __builtin_floorf(x))                    \
  METAL_FUNCTION_1(ceil, __builtin_ceilf(x))                      \
  METAL_FUNCTION_1(trunc, __builtin_truncf(x))                    \
  METAL_FUNCTION_1(round, __builtin_roundf(x))                    \
  METAL_FUNCTION_1(rint, __builtin_nearbyintf(x))                 \
  METAL_FUNCTION_2(pow, METAL_EVALUATE(pow, is_precise, x, y))    \
  METAL_FUNCTION_2(fmod, __builtin_fmodf(x, y))                   \
  METAL_FUNCTION_2(fmax, __builtin_fmaxf(x, y))                   \
  METAL_FUNCTION_2(fmin, __builtin_fminf(x, y))                   \
  METAL_FUNCTION_2(copysign, __builtin_copysignf(x, y))           \
  METAL_FUNCTION_2(divide, METAL_EVALUATE(divide, is_precise, x, y))
METAL_TRANSCENDENTAL(false)
// clang-format off
namespace fast { METAL_TRANSCENDENTAL(false) }
namespace precise { METAL_TRANSCENDENTAL(true) }
// clang-format on
#undef METAL_TRANSCENDENTAL
#undef METAL_EVALUATE
#undef METAL_FUNCTION_1
#undef METAL_FUNCTION_2

inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
template <class F>
inline Float16<F> fma(Float16<F> a, Float16<F> b, Float16<F> c) {
  return Float16<F>(fma(float(a), float(b), float(c)));
}

// The arguments of max, min and clamp must be of one type: Metal calls the others ambiguous.
// For floats a NaN loses against a number.
template <class T>
inline T max(T a, T b) {
  if constexpr (vec_size<T> > 0) {
    for (int i = 0; i < vec_size<T>; i++) a[i] = max(a[i], b[i]);
    return a;
  } else if constexpr (is_float<T>) {
    return fmax(a, b);
  } else {
    return a < b ? b : a;
  }
}
template <class T>
inline T min(T a, T b) {
  if constexpr (vec_size<T> > 0) {
    for (int i = 0; i < vec_size<T>; i++) a[i] = min(a[i], b[i]);
    return a;
  } else if constexpr (is_float<T>) {
    return fmin(a, b);
  } else {
    return b < a ? b : a;
  }
}
template <class T>
inline T max3(T a, T b, T c) { return max(a, max(b, c)); }
template <class T>
inline T min3(T a, T b, T c) { return min(a, min(b, c)); }
template <class T>
inline T clamp(T x, T low, T high) { return min(max(x, low), high); }
template <class T>
inline T saturate(T x) { return clamp(x, T(0.0f), T(1.0f)); }
template <class T>
inline T abs(T x) {
  if constexpr (is_float<T>) return fabs(x);
  else return x < T(0) ? T(-x) : x;
}
template <class T>
inline T mix(T a, T b, T t) { return a + (b - a) * t; }
template <class T>
inline T sign(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : T(0); }
template <class T>
inline T select(T otherwise, T chosen, bool condition) { return condition ? chosen : otherwise; }
template <class T, int N>
inline vec<T, N> select(vec<T, N> otherwise, vec<T, N> chosen, vec<bool, N> condition) {
  for (int i = 0; i < N; i++)
    if (condition[i]) otherwise[i] = chosen[i];
  return otherwise;
}
template <class T, int N>
inline T dot(vec<T, N> a, vec<T, N> b) {
  T sum = a[0] * b[0];
  for (int i = 1; i < N; i++) sum = sum + a[i] * b[i];
  return sum;
}

template <class T>
  requires(is_float<T>)
inline bool isnan(T x) { return __builtin_isnan(float(x)); }
template <class T>
  requires(is_float<T>)
inline bool isinf(T x) { return __builtin_isinf(float(x)); }
template <class T>
  requires(is_float<T>)
inline bool isfinite(T x) { return __builtin_isfinite(float(x)); }

template <class T>
  requires(std::is_integral_v<T>)
inline T popcount(T x) { return T(__builtin_popcountll(std::make_unsigned_t<T>(x))); }
template <class T>
  requires(std::is_integral_v<T>)
inline T clz(T x) {
  auto bits = std::make_unsigned_t<T>(x);
  return T(bits ? __builtin_clzll(bits) - (64 - 8 * int(sizeof(T))) : 8 * int(sizeof(T)));
}
template <class T>
  requires(std::is_integral_v<T>)
inline T ctz(T x) {
  auto bits = std::make_unsigned_t<T>(x);
  return T(bits ? __builtin_ctzll(bits) : 8 * int(sizeof(T)));
}
inline uint mulhi(uint a, uint b) { return uint(uint64_t(a) * b >> 32); }
inline int mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
inline uint rotate(uint x, uint n) { return x << (n & 31) | x >> (-n & 31); }
inline uint reverse_bits(uint x) {
  uint result = 0;
  for (int i = 0; i < 32; i++) result |= (x >> i & 1) << (31 - i);
  return result;
}

}  // namespace metal
