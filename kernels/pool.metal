// The functions of the pooling kernel; pool_metal.py has its body. THREADS comes from Python.

constant constexpr uint GROUPS = THREADS / 32;
constant constexpr uint BITS_OF_INFINITY = 0x7F800000;
constant constexpr float SMALLEST = 1.17549435e-38f;
constant constexpr int MEAN = 0, CLS = 1;  // the others are LAST

struct Place {
  uint thread_index, lane, group;
};

// The largest and the sum over the threadgroup; every thread gets the result.

METAL_FUNC uint group_max(uint value, threadgroup float* partial, Place at) {
  value = simd_max(value);
  if (at.lane == 0) partial[at.group] = as_type<float>(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  value = simd_max(at.lane < GROUPS ? as_type<uint>(partial[at.lane]) : 0u);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return value;
}

METAL_FUNC float group_sum(float value, threadgroup float* partial, Place at) {
  value = simd_sum(value);
  if (at.lane == 0) partial[at.group] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  value = simd_sum(at.lane < GROUPS ? partial[at.lane] : 0.0f);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return value;
}

// The mean of one component over positions first to last - 1, `stride` elements apart. Partial
// sums of a few positions, so that a long text loses no digits.
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
