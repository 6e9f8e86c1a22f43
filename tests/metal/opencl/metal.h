// Metal for clang's C++ for OpenCL, which checks address spaces. Declarations only: nothing runs.
//
// As in Metal 4.1, a pointer, a reference and `this` that name no space are generic: this file may
// use that. Metal before 4.1 does not have it, so second_compiler.py refuses it in kernels.
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
// Metal's kernels may have parameters that those of OpenCL may not, such as bool.
#pragma OPENCL EXTENSION __cl_clang_non_portable_kernel_param_types : enable

#define device __global
#define threadgroup __local
#define constant __constant
#define thread __private
#define METAL_FUNC inline
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long uint64_t;
typedef long int64_t;
typedef half float16_t;

struct bfloat {
  ushort bits;
  bfloat() = default;
  explicit bfloat(float);
  operator float() const;
};
typedef bfloat bfloat16_t;

namespace metal {

template <class T, int N>
struct vec {
  T data[N];
  vec() = default;
  vec(T);
  template <class A, class B, class C, class D>
  vec(A, B, C, D);
  template <class U>
  explicit vec(const vec<U, N>&);
  thread T& operator[](uint i) thread;
  T operator[](uint i) const thread;
  T x, y, z, w;
};
#define OPERATOR(op)                                         \
  template <class T, int N>                                  \
  vec<T, N> operator op(const vec<T, N>&, const vec<T, N>&); \
  template <class T, int N>                                  \
  vec<T, N> operator op(const vec<T, N>&, T);
OPERATOR(+) OPERATOR(-) OPERATOR(*) OPERATOR(/)
#undef OPERATOR

#define FUNCTION(name)  \
  float name(float);    \
  template <int N>      \
  vec<float, N> name(const vec<float, N>&);
#define FUNCTIONS                                                                   \
  FUNCTION(exp) FUNCTION(exp2) FUNCTION(log) FUNCTION(log2) FUNCTION(sqrt) FUNCTION(rsqrt)
FUNCTIONS
namespace precise { FUNCTIONS }
namespace fast { FUNCTIONS }
#undef FUNCTIONS
#undef FUNCTION

// Two arguments of one type, as the other types are ambiguous in Metal.
template <class T> T max(T, T);
template <class T> T min(T, T);
template <class T> T abs(T);
template <class To, class From> To as_type(From);
uint mulhi(uint, uint);

enum class mem_flags { mem_none, mem_device, mem_threadgroup };
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);
template <class T> T simd_sum(T);
template <class T> T simd_max(T);
template <class T> T simd_min(T);
template <class T> T simd_prefix_inclusive_sum(T);
template <class T> T simd_prefix_exclusive_sum(T);
template <class T> T simd_broadcast(T, ushort);
template <class T> T simd_shuffle(T, ushort);

// OpenCL has a type of the name atomic_uint.
#define atomic_uint metal::atomic<uint>
template <class T>
struct atomic {
  T value;
};
enum memory_order { memory_order_relaxed };
#define ATOMIC(space)                                                                  \
  template <class T> T atomic_load_explicit(const space atomic<T>*, memory_order);      \
  template <class T> void atomic_store_explicit(space atomic<T>*, T, memory_order);     \
  template <class T> T atomic_fetch_add_explicit(space atomic<T>*, T, memory_order);    \
  template <class T> T atomic_fetch_or_explicit(space atomic<T>*, T, memory_order);
ATOMIC(device) ATOMIC(threadgroup)
#undef ATOMIC

}  // namespace metal

using namespace metal;
typedef vec<float, 2> float2;
typedef vec<float, 4> float4;
typedef vec<uint, 3> uint3;
typedef vec<uint, 4> uint4;
