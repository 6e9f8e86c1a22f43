// Included before the translated source of a kernel: the language, and the additions of MLX.
#pragma once
#include "metal_threads.h"

// A threadgroup variable: one for all threads of the threadgroup.
template <class T>
inline T& threadgroup_variable(int number, const char* name) {
  return *static_cast<T*>(emulator::shared(number, name, sizeof(T), alignof(T),
                                           sizeof(std::remove_all_extents_t<T>)));
}

#define METAL_FUNC inline
// Address spaces are one flat memory here; the machine knows the space of each address.
#define device
#define threadgroup
#define thread

using namespace metal;
typedef half float16_t;
typedef bfloat bfloat16_t;
typedef half4 float16_t4;
typedef bfloat4 bfloat16_t4;

// From MLX's utils.h, which it puts before each kernel.
template <class T, class U>
inline constexpr T ceildiv(T n, U m) { return (n + m - 1) / m; }
