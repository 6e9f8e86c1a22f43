// Scalar and vector types of the Metal Shading Language, as C++20 classes.
#pragma once
#include <cfloat>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;

namespace metal {

using std::conditional_t, std::enable_if, std::enable_if_t;
using std::is_floating_point_v, std::is_integral_v, std::is_same, std::is_same_v;

template <class To, class From>
inline To as_type(From value) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs types of one size");
  return __builtin_bit_cast(To, value);
}

// ---- 16-bit floats: stored in 16 bits, computed in float32, rounded to nearest even

struct HalfFormat {
  static constexpr bool explicit_from_float = false;
  static constexpr uint16_t infinity = 0x7C00, max = 0x7BFF, min = 0x0400, nan = 0x7E00;
  static float decode(uint16_t h) {
    uint sign = uint(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3FF;
    if (exponent == 0) {
      float magnitude = float(int(fraction)) * 0x1p-24f;
      return sign ? -magnitude : magnitude;
    }
    uint wide = exponent == 31 ? 255 : exponent + 112;
    return as_type<float>(sign | wide << 23 | fraction << 13);
  }
  static uint16_t encode(float value) {
    uint bits = as_type<uint>(value), sign = bits >> 16 & 0x8000, size = bits & 0x7FFFFFFF;
    if (size > 0x7F800000) return uint16_t(sign | nan);
    if (size >= 0x477FF000) return uint16_t(sign | infinity);
    // Adding 0.5 leaves the subnormal half's fraction, rounded, in the lowest bits.
    if (size < 0x38800000)
      return uint16_t(sign | (as_type<uint>(as_type<float>(size) + 0.5f) - 0x3F000000));
    return uint16_t(sign | (size + 0xFFF + (size >> 13 & 1) - 0x38000000) >> 13);
  }
};

struct BfloatFormat {
  static constexpr bool explicit_from_float = true;
  static constexpr uint16_t infinity = 0x7F80, max = 0x7F7F, min = 0x0080, nan = 0x7FC0;
  static float decode(uint16_t b) { return as_type<float>(uint(b) << 16); }
  static uint16_t encode(float value) {
    uint bits = as_type<uint>(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return nan;
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
  }
};

template <class Format>
struct Float16 {
  uint16_t bits;
  Float16() = default;
  template <class T>
    requires(std::is_arithmetic_v<T>)
  explicit(Format::explicit_from_float) Float16(T value) : bits(Format::encode(float(value))) {}
  template <class Other>
    requires(!std::is_same_v<Other, Format>)
  explicit Float16(Float16<Other> value) : bits(Format::encode(float(value))) {}
  operator float() const { return Format::decode(bits); }
  static Float16 of(uint16_t bits) {
    Float16 value;
    value.bits = bits;
    return value;
  }
  Float16 operator-() const { return of(bits ^ 0x8000); }
};

// Two of one format, or one and an integer, give that format; with a float, float.
#define METAL_FLOAT16_OPERATOR(op)                                                             \
  template <class F>                                                                           \
  inline Float16<F> operator op(Float16<F> a, Float16<F> b) {                                  \
    return Float16<F>(float(a) op float(b));                                                   \
  }                                                                                            \
  template <class F, class I>                                                                  \
    requires(std::is_integral_v<I>)                                                            \
  inline Float16<F> operator op(Float16<F> a, I b) { return a op Float16<F>(b); }              \
  template <class F, class I>                                                                  \
    requires(std::is_integral_v<I>)                                                            \
  inline Float16<F> operator op(I a, Float16<F> b) { return Float16<F>(a) op b; }              \
  template <class F, class T>                                                                  \
  inline Float16<F>& operator op##=(Float16<F>& a, T b) { return a = Float16<F>(a op b); }
METAL_FLOAT16_OPERATOR(+)
METAL_FLOAT16_OPERATOR(-)
METAL_FLOAT16_OPERATOR(*)
METAL_FLOAT16_OPERATOR(/)
#undef METAL_FLOAT16_OPERATOR

template <class T>
struct numeric_limits : std::numeric_limits<T> {};
template <class F>
struct numeric_limits<Float16<F>> {
  static Float16<F> infinity() { return Float16<F>::of(F::infinity); }
  static Float16<F> max() { return Float16<F>::of(F::max); }
  static Float16<F> lowest() { return Float16<F>::of(F::max | 0x8000); }
  static Float16<F> min() { return Float16<F>::of(F::min); }
  static Float16<F> quiet_NaN() { return Float16<F>::of(F::nan); }
};

// ---- vectors of 2, 3 and 4

template <class T, int N>
struct vec;
template <class T>
inline constexpr int vec_size = 0;  // 0: a scalar
template <class T, int N>
inline constexpr int vec_size<vec<T, N>> = N;

#define METAL_VEC_COMMON(N)                                        \
  vec() = default;                                                 \
  vec(T scalar) {                                                  \
    for (int i = 0; i < N; i++) data[i] = scalar;                  \
  }                                                                \
  template <class U>                                               \
  explicit vec(vec<U, N> other) {                                  \
    for (int i = 0; i < N; i++) data[i] = static_cast<T>(other[i]); \
  }                                                                \
  T& operator[](int i) { return data[i]; }                         \
  const T& operator[](int i) const { return data[i]; }

template <class T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  union {
    T data[2];
    struct { T x, y; };
  };
  METAL_VEC_COMMON(2)
  vec(T a, T b) : data{a, b} {}
};
template <class T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  union {
    T data[3];
    struct { T x, y, z; };
  };
  METAL_VEC_COMMON(3)
  vec(T a, T b, T c) : data{a, b, c} {}
};
template <class T>
struct alignas(4 * sizeof(T)) vec<T, 4> {
  union {
    T data[4];
    struct { T x, y, z, w; };
  };
  METAL_VEC_COMMON(4)
  vec(T a, T b, T c, T d) : data{a, b, c, d} {}
  vec(vec<T, 2> a, vec<T, 2> b) : data{a.x, a.y, b.x, b.y} {}
  vec(vec<T, 3> a, T b) : data{a.x, a.y, a.z, b} {}
};
#undef METAL_VEC_COMMON

template <class T, int N, class F>
inline auto each(vec<T, N> v, F function) {
  vec<decltype(function(v[0])), N> result;
  for (int i = 0; i < N; i++) result[i] = function(v[i]);
  return result;
}

#define METAL_VEC_OPERATOR(op, Result)                                                         \
  template <class T, int N>                                                                    \
  inline vec<Result, N> operator op(vec<T, N> a, vec<T, N> b) {                                \
    vec<Result, N> result;                                                                     \
    for (int i = 0; i < N; i++) result[i] = Result(a[i] op b[i]);                              \
    return result;                                                                             \
  }                                                                                            \
  template <class T, int N>                                                                    \
  inline vec<Result, N> operator op(vec<T, N> a, std::type_identity_t<T> b) {                  \
    return a op vec<T, N>(b);                                                                  \
  }                                                                                            \
  template <class T, int N>                                                                    \
  inline vec<Result, N> operator op(std::type_identity_t<T> a, vec<T, N> b) {                  \
    return vec<T, N>(a) op b;                                                                  \
  }
#define METAL_VEC_ARITHMETIC(op)                                                               \
  METAL_VEC_OPERATOR(op, T)                                                                    \
  template <class T, int N, class U>                                                           \
  inline vec<T, N>& operator op##=(vec<T, N>& a, U b) { return a = a op b; }
METAL_VEC_ARITHMETIC(+)
METAL_VEC_ARITHMETIC(-)
METAL_VEC_ARITHMETIC(*)
METAL_VEC_ARITHMETIC(/)
METAL_VEC_ARITHMETIC(%)
METAL_VEC_ARITHMETIC(&)
METAL_VEC_ARITHMETIC(|)
METAL_VEC_ARITHMETIC(^)
METAL_VEC_ARITHMETIC(<<)
METAL_VEC_ARITHMETIC(>>)
METAL_VEC_OPERATOR(==, bool)
METAL_VEC_OPERATOR(!=, bool)
METAL_VEC_OPERATOR(<, bool)
METAL_VEC_OPERATOR(>, bool)
METAL_VEC_OPERATOR(<=, bool)
METAL_VEC_OPERATOR(>=, bool)
#undef METAL_VEC_ARITHMETIC
#undef METAL_VEC_OPERATOR

template <class T, int N>
inline vec<T, N> operator-(vec<T, N> v) { return each(v, [](T x) { return T(-x); }); }
template <class T, int N>
inline vec<T, N> operator~(vec<T, N> v) { return each(v, [](T x) { return T(~x); }); }
template <int N>
inline bool any(vec<bool, N> v) {
  for (int i = 0; i < N; i++)
    if (v[i]) return true;
  return false;
}
template <int N>
inline bool all(vec<bool, N> v) {
  for (int i = 0; i < N; i++)
    if (!v[i]) return false;
  return true;
}

}  // namespace metal

typedef metal::Float16<metal::HalfFormat> half;
typedef metal::Float16<metal::BfloatFormat> bfloat;

#define METAL_VECTORS_OF(T) \
  typedef metal::vec<T, 2> T##2; \
  typedef metal::vec<T, 3> T##3; \
  typedef metal::vec<T, 4> T##4;
METAL_VECTORS_OF(bool)
METAL_VECTORS_OF(char)
METAL_VECTORS_OF(uchar)
METAL_VECTORS_OF(short)
METAL_VECTORS_OF(ushort)
METAL_VECTORS_OF(int)
METAL_VECTORS_OF(uint)
METAL_VECTORS_OF(long)
METAL_VECTORS_OF(ulong)
METAL_VECTORS_OF(half)
METAL_VECTORS_OF(bfloat)
METAL_VECTORS_OF(float)
#undef METAL_VECTORS_OF
