// The functions of the pooling kernel; pool_metal.py holds the body. Python defines THREADS.

constant constexpr uint GROUPS = THREADS / 32;
constant constexpr uint BITS_OF_INFINITY = 0x7F800000;
constant constexpr float SMALLEST = 1.17549435e-38f;
constant constexpr int MEAN = 0, CLS = 1;  // any other mode is LAST

struct ThreadIndices {
  uint thread_index, lane, group;  // in the threadgroup, in its SIMD group, of the SIMD group
};

// The maximum and the sum over the threadgroup; every thread gets the result.

METAL_FUNC uint group_max(uint value, threadgroup float* partial, ThreadIndices my) {
  value = simd_max(value);
  if (my.lane == 0) partial[my.group] = as_type<float>(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  value = simd_max(my.lane < GROUPS ? as_type<uint>(partial[my.lane]) : 0u);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return value;
}

METAL_FUNC float group_sum(float value, threadgroup float* partial, ThreadIndices my) {
  value = simd_sum(value);
  if (my.lane == 0) partial[my.group] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  value = simd_sum(my.lane < GROUPS ? partial[my.lane] : 0.0f);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return value;
}

// The mean of one component over positions first to last - 1, `stride` elements apart. Summed in
// parts of a few positions, so that a long input loses no digits.
template <typename T>
METAL_FUNC float mean_of(const device T* component, uint first, uint last, uint stride) {
  const float share = 1.0f / float(last - first);
  float sum = 0.0f;
  for (uint start = first; start < last; start += 32) {
    float part = 0.0f;
    for (uint i = start; i < min(start + 32, last); i++)
      part += float(component[ulong(i) * stride]) * share;
    sum += part;
  }
  return sum;
}
