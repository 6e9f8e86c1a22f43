// The functions of the sampling kernel; sample_metal.py holds the body. Python defines GROUPS.
//
// One threadgroup samples the token of one row. Tokens are ordered by a key of 64 bits: the
// distance of the logit from the largest one (a float that is never negative, so its bits have
// the same order), then the id. Smaller keys are more likely.

constant constexpr uint LANES = 32;
constant constexpr uint THREADS = GROUPS * LANES;
constant constexpr uint BLOCK = 4 * LANES;   // tokens that a SIMD group reads at once
constant constexpr uint SLOTS = 4;           // keys of one thread in the sorted window
constant constexpr uint CAPACITY = SLOTS * THREADS;
constant constexpr uint PIVOTS = 8;          // parts into which a pass divides a range of keys
constant constexpr uint MARKS = 2048;        // words of the bitmap of adjusted ids
constant constexpr uint NEVER = 0xFFFFFFFF;
constant constexpr float LOG2_E = 1.44269504f;
constant constexpr float LARGEST = 3.40282347e38f;
constant constexpr float SMALLEST = 1.17549435e-38f;

struct ThreadIndices {
  uint thread_index, lane, group;  // in the threadgroup, in its SIMD group, of the SIMD group
};

struct Shared {
  ulong keys[CAPACITY];
  float partial[GROUPS][2 * PIVOTS];
  atomic_uint count;
  uint token;
};

// ---- maximum, minimum and sum over the threadgroup; every thread gets the result

METAL_FUNC float group_max(float value, threadgroup Shared& shared, ThreadIndices my) {
  value = simd_max(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (my.lane == 0) shared.partial[my.group][0] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_max(my.lane < GROUPS ? shared.partial[my.lane][0] : -INFINITY);
}

METAL_FUNC uint group_min(uint value, threadgroup Shared& shared, ThreadIndices my) {
  value = simd_min(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (my.lane == 0) shared.partial[my.group][0] = as_type<float>(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_min(my.lane < GROUPS ? as_type<uint>(shared.partial[my.lane][0]) : NEVER);
}

struct Sum {
  float before, total;  // of the threads before this one, of all threads
};

METAL_FUNC Sum group_sum(float value, threadgroup Shared& shared, ThreadIndices my) {
  const float before = simd_prefix_exclusive_sum(value);
  const float sum = simd_sum(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (my.lane == 0) shared.partial[my.group][0] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float sums = my.lane < GROUPS ? shared.partial[my.lane][0] : 0.0f;
  const float base = simd_shuffle(simd_prefix_exclusive_sum(sums), ushort(my.group));
  return {base + before, simd_sum(sums)};
}

// ---- a row of logits

template <typename T>
struct Row {
  const device T* logits;
  uint size;
  // The adjustments and the mask of this row, from Adjustments and TokenMasks.
  bool is_adjusted, is_masked;
  const device int* ids;
  const device float* biases;
  const device int* counts;
  uint num_ids;
  float repetition, frequency, presence;
  const device uint* mask;
  threadgroup atomic_uint* marks;

  // The logits of tokens i to i + 3, i a multiple of 4. Past the end of the row -inf: such a token
  // is never sampled, and comes last by id.
  float4 raw(uint i) const {
    if (size % 4 == 0) return float4(*(const device vec<T, 4>*)(logits + i));
    float4 x = float4(-INFINITY);
    for (uint c = 0; c < 4 && i + c < size; c++) x[c] = float(logits[i + c]);
    return x;
  }

  // The logits x of tokens i to i + 3 with bias, penalties and mask.
  float4 edit(float4 x, uint i) const {
    if (is_adjusted) {
      const uint word = atomic_load_explicit(&marks[(i / 32) % MARKS], memory_order_relaxed);
      const uint marked = (word >> (i % 32)) & 15;
      for (uint c = 0; marked != 0 && c < 4; c++)
        if ((marked >> c & 1) != 0) x[c] = adjusted(i + c, x[c]);
    }
    if (is_masked) {
      const uint allowed = mask[i / 32] >> (i % 32);
      for (uint c = 0; c < 4; c++)
        if ((allowed >> c & 1) == 0) x[c] = -INFINITY;
    }
    return x;
  }

  float4 read(uint i, bool is_raw) const { return is_raw ? raw(i) : edit(raw(i), i); }

  float adjusted(uint id, float x) const {
    uint low = 0, high = num_ids;  // search of the first entry that is not below id
    while (low < high) {
      const uint middle = (low + high) / 2;
      if (uint(ids[middle]) < id) low = middle + 1;
      else high = middle;
    }
    if (low == num_ids || uint(ids[low]) != id) return x;
    x += biases[low];
    const int count = counts[low];
    if (count >= 0) x = x > 0.0f ? x / repetition : x * repetition;
    if (count > 0) x -= float(count) * frequency + presence;
    return x;
  }

  // Marks the adjusted ids in a bitmap, where ids 65,536 apart share a bit.
  void mark(ThreadIndices my) const {
    for (uint i = my.thread_index; i < MARKS; i += THREADS)
      atomic_store_explicit(&marks[i], 0u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = my.thread_index; i < num_ids; i += THREADS) {
      const uint id = uint(ids[i]);
      atomic_fetch_or_explicit(&marks[(id / 32) % MARKS], 1u << (id % 32),
                               memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
};

// ---- the first pass: largest logit and sum of weights

// The logits seen so far: the largest, the index of its first block of 4, and the sum of weights
// 2**((logit - peak) * scale). Any NaN or +inf makes the mass NaN.
struct Totals {
  float peak = -LARGEST, mass = 0.0f;
  uint index = NEVER;

  void add(float4 x, uint i, float scale) {
    const float top = max(max(x[0], x[1]), max(x[2], x[3]));
    if (top > peak || index == NEVER) {
      const float now = max(top, peak);
      mass *= exp2((peak - now) * scale);
      peak = now;
      index = i;
    }
    const float4 weights = exp2((x - peak) * scale);
    mass += (weights[0] + weights[1]) + (weights[2] + weights[3]);
  }

  // The sum of the weights relative to another peak, which is at least as large.
  float mass_from(float other, float scale) const {
    return mass * exp2((peak - other) * scale);
  }
};

// The logits to sample from: those of a row with its edits, or raw for the most likely tokens.
template <typename T>
struct Source {
  Row<T> row;
  bool is_raw;
  float peak, scale, mass;  // largest logit, log2(e) / temperature, sum of all weights
  float lane_peak;          // the largest logit that this thread has read
  ulong end;                // tokens with this key or a larger one have no weight

  ulong key(float x, uint id) const {
    return ulong(as_type<uint>(peak - x)) << 32 | ulong(id);
  }
  float weight(ulong key) const {
    const float distance = as_type<float>(uint(key >> 32));
    // Exactly 1 for the largest logit: exp2(0) may be less on the device, and min-p can be 1.
    return distance > 0.0f ? exp2(-distance * scale) : 1.0f;
  }
};

// ---- windows: ranges of keys, sorted

// The tokens with low <= key < high; the `rank` tokens before them have the total weight `mass`.
struct Window {
  ulong low, high;
  uint rank, count;
  float mass;
};

// The limits of a truncation. Every token inside is more likely than any token outside.
struct Bound {
  uint rank;     // a token inside has fewer tokens before it,
  float mass;    // less mass before it,
  float weight;  // and at least this weight

  bool has(uint rank_before, float mass_before, float own_weight) const {
    return rank_before < rank && mass_before < mass && own_weight >= weight;
  }
};

// Fills shared.keys with the keys from low to high, sorted. Returns their number; if that is more
// than CAPACITY, shared.keys is undefined.
template <typename T>
METAL_FUNC uint collect(thread const Source<T>& source, ulong low, ulong high,
                        threadgroup Shared& shared, ThreadIndices my) {
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (my.thread_index == 0) atomic_store_explicit(&shared.count, 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = 4 * my.thread_index; i < source.row.size; i += 4 * THREADS) {
    const float4 x = source.row.read(i, source.is_raw);
    for (uint c = 0; c < 4; c++) {
      const ulong key = source.key(x[c], i + c);
      if (key < low || key >= high) continue;
      const uint slot = atomic_fetch_add_explicit(&shared.count, 1u, memory_order_relaxed);
      if (slot < CAPACITY) shared.keys[slot] = key;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint count = atomic_load_explicit(&shared.count, memory_order_relaxed);
  if (count > CAPACITY) return count;

  // A bitonic sort (Batcher 1968) of the next power of two.
  uint size = 2;
  while (size < count) size *= 2;
  for (uint i = count + my.thread_index; i < size; i += THREADS) shared.keys[i] = ~0ul;
  for (uint run = 2; run <= size; run *= 2) {
    for (uint step = run / 2; step > 0; step /= 2) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      for (uint i = my.thread_index; i < size / 2; i += THREADS) {
        const uint left = 2 * step * (i / step) + i % step;
        const ulong a = shared.keys[left], b = shared.keys[left + step];
        if ((a > b) == ((left & run) == 0)) {
          shared.keys[left] = b;
          shared.keys[left + step] = a;
        }
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return count;
}

// The key at which the bound probably ends, estimated from the largest logit of each thread: these
// are a sample of the row's largest logits. Never so large that the tokens up to the key are likely
// to exceed the window's capacity.
template <typename T>
METAL_FUNC ulong estimate_end(thread const Source<T>& source, Bound bound,
                              threadgroup Shared& shared, ThreadIndices my) {
  if (source.row.size <= CAPACITY) return source.end;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  shared.keys[my.thread_index] = source.key(source.lane_peak, 0);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint enough = min(bound.rank, 9 * THREADS / 10);
  // Weights past this distance vanish or are below the bound; a margin for rounded logarithms.
  const float least = min(126.0f, 0.01f - log2(bound.weight));
  float near = 0.0f, far = min(least / source.scale, LARGEST);
  for (uint i = 0; i < 14; i++) {
    const float middle = near + (far - near) / 2;
    uint count = 0;
    float mass = 0.0f;
    for (uint j = my.lane; j < THREADS; j += LANES) {
      const ulong key = shared.keys[j];
      if (as_type<float>(uint(key >> 32)) > middle) continue;
      count++;
      mass += source.weight(key);
    }
    if (simd_sum(count) >= enough || simd_sum(mass) >= bound.mass) far = middle;
    else near = middle;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return min(source.end, ulong(as_type<uint>(far) + 1) << 32);
}

// The j-th of PIVOTS + 1 keys from low to high. Evenly spaced by logit at usual distances, by bits,
// thus by magnitude, at larger and smaller distances, and by id among nearly equal logits. Every
// part is shorter than the range, also if the device rounds small numbers to zero.
METAL_FUNC ulong pivot(ulong low, ulong high, uint j) {
  if (j == 0) return low;
  if (j == PIVOTS) return high;
  const uint near = uint(low >> 32), far = uint(high >> 32);
  if (far - near < 2 * PIVOTS) return low + (high - low) / PIVOTS * j;
  const float from = as_type<float>(near), to = as_type<float>(far);
  const bool is_even = to > 0.001f && to < 1024.0f;
  const uint bits = is_even ? as_type<uint>(from + (to - from) * (float(j) / PIVOTS))
                            : near + (far - near) / PIVOTS * j;
  return ulong(bits) << 32;
}

// The part of a window in which the bound ends, unsorted: the range of keys is divided until the
// part fits. Each round reads the row once.
template <typename T>
METAL_FUNC Window narrow(thread const Source<T>& source, Window window, Bound bound,
                         threadgroup Shared& shared, ThreadIndices my) {
  while (window.count > CAPACITY) {
    ulong pivots[PIVOTS + 1];
    uint counts[PIVOTS];  // of this thread's tokens before pivot j + 1
    float masses[PIVOTS];
    pivots[0] = window.low;
    for (uint j = 0; j < PIVOTS; j++) {
      pivots[j + 1] = pivot(window.low, window.high, j + 1);
      counts[j] = 0;
      masses[j] = 0.0f;
    }
    for (uint i = 4 * my.thread_index; i < source.row.size; i += 4 * THREADS) {
      const float4 x = source.row.read(i, source.is_raw);
      for (uint c = 0; c < 4; c++) {
        const ulong key = source.key(x[c], i + c);
        if (key < window.low || key >= window.high) continue;
        const float weight = source.weight(key);
        for (uint j = 0; j < PIVOTS; j++) {
          const bool is_before = key < pivots[j + 1];
          counts[j] += is_before ? 1 : 0;
          masses[j] += is_before ? weight : 0.0f;
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint j = 0; j < PIVOTS; j++) {
      const uint count = simd_sum(counts[j]);
      const float mass = simd_sum(masses[j]);
      if (my.lane == 0) {
        shared.partial[my.group][2 * j] = float(count);  // exact, below 2**24
        shared.partial[my.group][2 * j + 1] = mass;
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Window next = window;
    uint rank = window.rank;
    float mass = window.mass;
    for (uint j = 0; j < PIVOTS; j++) {
      float count_to = 0.0f, mass_to = 0.0f;  // up to pivot j + 1
      for (uint g = 0; g < GROUPS; g++) {
        count_to += shared.partial[g][2 * j];
        mass_to += shared.partial[g][2 * j + 1];
      }
      const uint rank_to = window.rank + uint(count_to);
      // The last part that is not empty and starts inside; the first part if no token is inside.
      const bool starts_inside = bound.has(rank, mass, source.weight(pivots[j]));
      if (j == 0 || (rank_to > rank && starts_inside))
        next = {pivots[j], pivots[j + 1], rank, rank_to - rank, mass};
      rank = rank_to;
      mass = window.mass + mass_to;
    }
    window = next;
  }
  return window;
}

// The tokens of a row that are inside a bound.
struct Prefix {
  uint count;
  float mass;
};

// The tokens inside the bound: those of the sorted window, and all before the window.
template <typename T>
METAL_FUNC Prefix measure(thread const Source<T>& source, Window window, Bound bound,
                          threadgroup Shared& shared, ThreadIndices my) {
  const uint first = SLOTS * my.thread_index;
  float weights[SLOTS];
  float sum = 0.0f;
  for (uint j = 0; j < SLOTS; j++) {
    weights[j] = first + j < window.count ? source.weight(shared.keys[first + j]) : 0.0f;
    sum += weights[j];
  }
  float before = window.mass + group_sum(sum, shared, my).before;
  uint count = 0;
  float mass = 0.0f;
  for (uint j = 0; j < SLOTS; j++) {
    if (first + j < window.count && bound.has(window.rank + first + j, before, weights[j])) {
      count++;
      mass += weights[j];
    }
    before += weights[j];
  }
  const float total = group_sum(mass, shared, my).total;
  const float inside = group_sum(float(count), shared, my).total;
  return {window.rank + uint(inside), window.mass + total};
}

// The tokens of a row in order of likelihood, of which a sorted window is in memory.
template <typename T>
struct Ranking {
  Window window;  // the tokens in shared.keys
  Window top;     // the first window; empty if more tokens were found than fit
  float top_mass;

  // Collects the most likely tokens, up to the probable end of the bound.
  void open(thread const Source<T>& source, Bound bound, threadgroup Shared& shared,
            ThreadIndices my) {
    const ulong end = estimate_end(source, bound, shared, my);
    const uint count = collect(source, 0, end, shared, my);
    top = {0, count > CAPACITY ? 0 : end, 0, count > CAPACITY ? 0 : count, 0.0f};
    top_mass = measure(source, top, Bound{NEVER, INFINITY, 0.0f}, shared, my).mass;
    window = top;
  }

  // True if the first token after the top, whose key is at least the top's end, may be inside.
  bool may_pass_top(thread const Source<T>& source, Bound bound) const {
    return top.high < source.end && bound.has(top.count, top_mass, source.weight(top.high));
  }

  // The tokens inside the bound. Moves the window to the end of the bound.
  Prefix seek(thread const Source<T>& source, Bound bound, threadgroup Shared& shared,
              ThreadIndices my) {
    const bool is_top = window.low == 0;
    if (may_pass_top(source, bound)) {
      if (!is_top) {
        const Prefix prefix = measure(source, window, bound, shared, my);
        const bool ends_here =
            prefix.count < window.rank + window.count || window.high == source.end;
        if (ends_here && prefix.count > window.rank) return prefix;
      }
      const Window remaining = {top.high, source.end, top.count, NEVER, top_mass};
      window = narrow(source, remaining, bound, shared, my);
      collect(source, window.low, window.high, shared, my);
    } else if (!is_top) {
      window = top;
      collect(source, window.low, window.high, shared, my);
    }
    return measure(source, window, bound, shared, my);
  }
};

// ---- sampling

// A number in [0, 1) from the first word of Philox4x32-10; see philox.py.
METAL_FUNC float philox_uniform(ulong seed, uint position) {
  uint4 counter = uint4(position, 0, 0, 0);
  uint key_0 = uint(seed), key_1 = uint(seed >> 32);
  for (uint i = 0; i < 10; i++) {
    const uint high_0 = mulhi(0xD2511F53u, counter[0]), low_0 = 0xD2511F53u * counter[0];
    const uint high_1 = mulhi(0xCD9E8D57u, counter[2]), low_1 = 0xCD9E8D57u * counter[2];
    counter = uint4(high_1 ^ counter[1] ^ key_0, low_1, high_0 ^ counter[3] ^ key_1, low_0);
    key_0 += 0x9E3779B9u;
    key_1 += 0xBB67AE85u;
  }
  return float(counter[0] >> 9) * 1.1920928955078125e-07f;
}

// A token of a truncated row, among those inside top-k, top-p and min-p.
template <typename T>
METAL_FUNC uint sample_truncated(thread const Source<T>& source, uint top_k, float top_p,
                                 float min_p, float number, threadgroup Shared& shared,
                                 ThreadIndices my) {
  // The most likely token is always inside.
  const float share = top_p < 1.0f ? max(top_p, SMALLEST) : INFINITY;
  Bound bound = {top_k > 0 ? top_k : NEVER, share * source.mass, max(min_p, SMALLEST)};
  Ranking<T> ranking;
  if (top_k > 0 && top_p < 1.0f) {
    const Bound by_rank = {top_k, INFINITY, SMALLEST};
    ranking.open(source, by_rank, shared, my);
    bound.mass = share * ranking.seek(source, by_rank, shared, my).mass;
  } else {
    ranking.open(source, bound, shared, my);
  }
  const Prefix kept = ranking.seek(source, bound, shared, my);
  // The last token with at most the sampled mass before it, so with less than the next float.
  const float target = as_type<float>(as_type<uint>(max(number * kept.mass, SMALLEST)) + 1);
  const Prefix up_to = ranking.seek(source, Bound{kept.count, target, 0.0f}, shared, my);
  return uint(shared.keys[up_to.count - ranking.window.rank - 1]);
}

// A token of the whole vocabulary: first the SIMD group whose tokens hold the sampled mass, then
// the token. `mass` is the mass of this thread's tokens.
template <typename T>
METAL_FUNC uint sample_full(thread const Source<T>& source, float mass, float number,
                            threadgroup Shared& shared, ThreadIndices my) {
  mass = simd_sum(mass);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (my.lane == 0) shared.partial[my.group][0] = mass;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float masses = my.lane < GROUPS ? shared.partial[my.lane][0] : 0.0f;
  const float up_to = simd_prefix_inclusive_sum(masses);
  float left = number * simd_broadcast(up_to, ushort(GROUPS - 1));
  const uint group = simd_sum(my.lane < GROUPS && up_to <= left ? 1u : 0u);
  if (my.group == group) {
    left -= group > 0 ? simd_broadcast(up_to, ushort(group - 1)) : 0.0f;
    uint token = NEVER, last = 0;
    for (uint block = group * BLOCK; block < source.row.size && token == NEVER;
         block += GROUPS * BLOCK) {
      const uint i = block + 4 * my.lane;
      float4 weights = float4(0.0f);
      if (i < source.row.size)
        weights = exp2((source.row.read(i, false) - source.peak) * source.scale);
      const float sum = (weights[0] + weights[1]) + (weights[2] + weights[3]);
      float before = simd_prefix_exclusive_sum(sum);
      uint found = NEVER, positive = 0;
      for (uint c = 0; c < 4; c++) {
        before += weights[c];
        if (before > left) found = min(found, i + c);
        if (weights[c] > 0.0f) positive = i + c;
      }
      token = simd_min(found);
      last = max(last, simd_max(positive));
      left -= simd_sum(sum);
    }
    // Both sums round, so the sampled mass may lie past the end: then the last token is sampled.
    if (my.lane == 0) shared.token = token == NEVER ? last : token;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return shared.token;
}

// The most likely token, with the lowest id among equals.
template <typename T>
METAL_FUNC uint most_likely(thread const Source<T>& source, uint index,
                            threadgroup Shared& shared, ThreadIndices my) {
  uint token = NEVER;
  if (source.lane_peak == source.peak && index != NEVER) {
    const float4 x = source.row.read(index, source.is_raw);
    for (uint c = 0; c < 4; c++)
      if (x[c] == source.peak) token = min(token, index + c);
  }
  return group_min(token, shared, my);
}
