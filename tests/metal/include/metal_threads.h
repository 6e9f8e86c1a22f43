// Metal's barriers, SIMD-group functions and atomics.
#pragma once
#include <source_location>
#include "metal_math.h"
#include "runtime.h"

// Passed by default, so that it is the caller's place in the source.
#define METAL_SITE std::source_location at = std::source_location::current()

namespace metal {

inline emulator::Site site(const char* operation, std::source_location at) {
  return {operation, at.line(), at.column()};
}

enum class mem_flags : unsigned { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
inline mem_flags operator|(mem_flags a, mem_flags b) {
  return mem_flags(unsigned(a) | unsigned(b));
}

inline void threadgroup_barrier(mem_flags flags, METAL_SITE) {
  emulator::barrier(unsigned(flags), site("threadgroup_barrier", at));
}
inline void simdgroup_barrier(mem_flags flags, METAL_SITE) {
  emulator::simd_barrier(unsigned(flags), site("simdgroup_barrier", at));
}

// ---- SIMD-group functions

template <class T>
struct Lanes {
  T value[emulator::simd_width];
  uint present;
  emulator::Site site;

  bool has(uint lane) const { return lane < emulator::simd_width && present >> lane & 1; }
  T at(uint lane) const {
    if (!has(lane))
      emulator::fail("%s (line %u) reads lane %u, which the SIMD group does not have",
                     site.operation, site.line, lane);
    return value[lane];
  }
  // Neighbours first, as Apple GPUs are reported to add: a sum depends on the order.
  template <class F>
  T reduce(F combine) {
    for (uint step = 1; step < emulator::simd_width; step *= 2)
      for (uint i = 0; i < emulator::simd_width; i += 2 * step)
        if (has(i + step)) value[i] = combine(value[i], value[i + step]);
    return value[0];
  }
};

template <class T>
inline Lanes<T> gather(T value, const char* operation, std::source_location at) {
  static_assert(sizeof(T) <= 4 || (vec_size<T> > 0 && sizeof(T) <= 16),
                "SIMD-group functions take scalars of at most 32 bits");
  Lanes<T> lanes;
  lanes.site = site(operation, at);
  lanes.present = emulator::exchange(&value, lanes.value, sizeof(T), lanes.site);
  return lanes;
}

inline uint lane_index() { return emulator::thread_index() % emulator::simd_width; }

#define METAL_SIMD_REDUCTION(name, expression)                                 \
  template <class T>                                                           \
  inline T name(T value, METAL_SITE) {                                         \
    return gather(value, #name, at).reduce([](T a, T b) { return expression; }); \
  }
METAL_SIMD_REDUCTION(simd_sum, T(a + b))
METAL_SIMD_REDUCTION(simd_product, T(a * b))
METAL_SIMD_REDUCTION(simd_max, max(a, b))
METAL_SIMD_REDUCTION(simd_min, min(a, b))
METAL_SIMD_REDUCTION(simd_and, T(a & b))
METAL_SIMD_REDUCTION(simd_or, T(a | b))
METAL_SIMD_REDUCTION(simd_xor, T(a ^ b))
#undef METAL_SIMD_REDUCTION

template <class T>
inline T sum_of_first(const Lanes<T>& lanes, uint count) {
  T sum = T(0);
  for (uint i = 0; i < count; i++) sum = T(sum + lanes.at(i));
  return sum;
}
template <class T>
inline T simd_prefix_inclusive_sum(T value, METAL_SITE) {
  return sum_of_first(gather(value, "simd_prefix_inclusive_sum", at), lane_index() + 1);
}
template <class T>
inline T simd_prefix_exclusive_sum(T value, METAL_SITE) {
  return sum_of_first(gather(value, "simd_prefix_exclusive_sum", at), lane_index());
}

template <class T>
inline T simd_broadcast(T value, ushort lane, METAL_SITE) {
  return gather(value, "simd_broadcast", at).at(lane);
}
template <class T>
inline T simd_broadcast_first(T value, METAL_SITE) {
  return gather(value, "simd_broadcast_first", at).at(0);
}
template <class T>
inline T simd_shuffle(T value, ushort lane, METAL_SITE) {
  return gather(value, "simd_shuffle", at).at(lane);
}
template <class T>
inline T simd_shuffle_xor(T value, ushort mask, METAL_SITE) {
  return gather(value, "simd_shuffle_xor", at).at(lane_index() ^ mask);
}
// Lanes past the end of the SIMD group keep their value (or take the one to fill with).
template <class T>
inline T simd_shuffle_and_fill_down(T value, T fill, ushort delta, METAL_SITE) {
  Lanes<T> lanes = gather(value, "simd_shuffle_down", at);
  uint from = lane_index() + delta;
  return from < emulator::simd_width ? lanes.at(from) : fill;
}
template <class T>
inline T simd_shuffle_and_fill_up(T value, T fill, ushort delta, METAL_SITE) {
  Lanes<T> lanes = gather(value, "simd_shuffle_up", at);
  uint lane = lane_index();
  return lane >= delta ? lanes.at(lane - delta) : fill;
}
template <class T>
inline T simd_shuffle_down(T value, ushort delta, METAL_SITE) {
  return simd_shuffle_and_fill_down(value, value, delta, at);
}
template <class T>
inline T simd_shuffle_up(T value, ushort delta, METAL_SITE) {
  return simd_shuffle_and_fill_up(value, value, delta, at);
}

inline uint votes(bool vote, const char* operation, std::source_location at) {
  uint bit = uint(vote) << lane_index();
  return gather(bit, operation, at).reduce([](uint a, uint b) { return a | b; });
}
inline bool simd_any(bool vote, METAL_SITE) { return votes(vote, "simd_any", at) != 0; }
inline bool simd_all(bool vote, METAL_SITE) { return votes(!vote, "simd_all", at) == 0; }
struct simd_vote {
  typedef uint64_t vote_t;
  vote_t bits;
  explicit operator vote_t() const { return bits; }
};
inline simd_vote simd_ballot(bool vote, METAL_SITE) { return {votes(vote, "simd_ballot", at)}; }

// ---- atomics, relaxed as Metal has them. One thread runs at a time, so load and store are
// enough; what the machine watches is their mixing with plain accesses.

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
  static_assert(sizeof(T) == 4 && (std::is_integral_v<T> || std::is_same_v<T, float>),
                "atomics are int, uint or float");
  // Metal has atomic floats in device memory only.
  static constexpr bool in_device_memory = std::is_same_v<T, float>;
  T load() const { return as_type<T>(emulator::atomic_load(this, in_device_memory)); }
  void store(T value) { emulator::atomic_store(this, as_type<uint>(value), in_device_memory); }
  atomic() = default;
  atomic(const atomic&) = delete;

 private:
  T value;
};

template <class T>
inline T atomic_load_explicit(const atomic<T>* object, memory_order) { return object->load(); }
template <class T>
inline void atomic_store_explicit(atomic<T>* object, std::type_identity_t<T> value, memory_order) {
  object->store(value);
}
template <class T>
inline bool atomic_compare_exchange_weak_explicit(atomic<T>* object, T* expected,
                                                  std::type_identity_t<T> desired, memory_order,
                                                  memory_order) {
  T current = object->load();
  if (as_type<uint>(current) != as_type<uint>(*expected)) {
    *expected = current;
    return false;
  }
  object->store(desired);
  return true;
}
#define METAL_ATOMIC(name, condition, expression)                             \
  template <class T>                                                          \
    requires(condition)                                                       \
  inline T name(atomic<T>* object, std::type_identity_t<T> operand, memory_order) { \
    T current = object->load();                                               \
    object->store(T(expression));                                             \
    return current;                                                           \
  }
METAL_ATOMIC(atomic_exchange_explicit, true, operand)
METAL_ATOMIC(atomic_fetch_max_explicit, std::is_integral_v<T>, max(current, operand))
METAL_ATOMIC(atomic_fetch_min_explicit, std::is_integral_v<T>, min(current, operand))
METAL_ATOMIC(atomic_fetch_and_explicit, std::is_integral_v<T>, current & operand)
METAL_ATOMIC(atomic_fetch_or_explicit, std::is_integral_v<T>, current | operand)
METAL_ATOMIC(atomic_fetch_xor_explicit, std::is_integral_v<T>, current ^ operand)
// Atomic addition of integers wraps; the detour keeps signed overflow defined.
template <class T>
using Wrapping = conditional_t<std::is_integral_v<T>, uint, T>;
METAL_ATOMIC(atomic_fetch_add_explicit, true, Wrapping<T>(current) + Wrapping<T>(operand))
METAL_ATOMIC(atomic_fetch_sub_explicit, true, Wrapping<T>(current) - Wrapping<T>(operand))
#undef METAL_ATOMIC

typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<float> atomic_float;

// ---- the attributes of a kernel's parameters, under Metal's names

struct Attributes {
  uint3 thread_position_in_grid, thread_position_in_threadgroup, threadgroup_position_in_grid;
  uint3 threads_per_threadgroup, threads_per_grid, threadgroups_per_grid;
  uint3 dispatch_threads_per_threadgroup;
  uint thread_index_in_threadgroup, thread_index_in_simdgroup, simdgroup_index_in_threadgroup;
  uint simdgroups_per_threadgroup;
  uint threads_per_simdgroup = emulator::simd_width, thread_execution_width = emulator::simd_width;

  Attributes() {
    auto vector = [](emulator::Size s) { return uint3(s.x, s.y, s.z); };
    emulator::Place here = emulator::place();
    thread_position_in_threadgroup = vector(here.position);
    threadgroup_position_in_grid = vector(here.group_position);
    threads_per_threadgroup = vector(here.group);
    threads_per_grid = vector(here.grid);
    threadgroups_per_grid = vector(here.groups);
    dispatch_threads_per_threadgroup = vector(here.full_group);
    thread_position_in_grid = threadgroup_position_in_grid * dispatch_threads_per_threadgroup +
                              thread_position_in_threadgroup;
    thread_index_in_threadgroup = emulator::thread_index();
    thread_index_in_simdgroup = thread_index_in_threadgroup % emulator::simd_width;
    simdgroup_index_in_threadgroup = thread_index_in_threadgroup / emulator::simd_width;
    simdgroups_per_threadgroup = (here.threads + emulator::simd_width - 1) / emulator::simd_width;
  }
};

}  // namespace metal
