// The functions of the sampling kernel; sample_metal.py has its body.
//
// One threadgroup draws the token of one row. Tokens are ordered by a key of 64 bits: how far
// the logit is below the largest one (a float that is never negative, so its bits order like
// it), then the id. Smaller keys are more likely. GROUPS comes from Python.

constant constexpr uint LANES = 32;
constant constexpr uint THREADS = GROUPS * LANES;
constant constexpr uint BLOCK = 4 * LANES;   // tokens that a SIMD group reads at a time
constant constexpr uint SLOTS = 4;           // keys that a thread has in the sorted window
constant constexpr uint CAPACITY = SLOTS * THREADS;
constant constexpr uint PIVOTS = 8;          // a pass divides a range of keys into so many
constant constexpr uint MARKS = 2048;        // words that tell which ids may be adjusted
constant constexpr uint NEVER = 0xFFFFFFFF;
constant constexpr float LOG2_E = 1.44269504f;
constant constexpr float LARGEST = 3.40282347e38f;
constant constexpr float SMALLEST = 1.17549435e-38f;

struct Place {
  uint thread_index, lane, group;
};

struct Shared {
  ulong keys[CAPACITY];
  float partial[GROUPS][2 * PIVOTS];
  atomic_uint count;
  uint token;
};

// ---- sums over the threadgroup; every thread gets the result

METAL_FUNC float group_max(float value, threadgroup Shared& shared, Place at) {
  value = simd_max(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.lane == 0) shared.partial[at.group][0] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_max(at.lane < GROUPS ? shared.partial[at.lane][0] : -INFINITY);
}

METAL_FUNC uint group_min(uint value, threadgroup Shared& shared, Place at) {
  value = simd_min(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.lane == 0) shared.partial[at.group][0] = as_type<float>(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_min(at.lane < GROUPS ? as_type<uint>(shared.partial[at.lane][0]) : NEVER);
}

struct Sum {
  float before, total;  // of the threads before this one, of all
};

METAL_FUNC Sum group_sum(float value, threadgroup Shared& shared, Place at) {
  const float before = simd_prefix_exclusive_sum(value);
  const float sum = simd_sum(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.lane == 0) shared.partial[at.group][0] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float sums = at.lane < GROUPS ? shared.partial[at.lane][0] : 0.0f;
  const float base = simd_shuffle(simd_prefix_exclusive_sum(sums), ushort(at.group));
  return {base + before, simd_sum(sums)};
}

// ---- a row of logits

template <typename T>
struct Row {
  const device T* logits;
  uint size;
  // What the arrays of Adjustments and TokenMasks say of this row.
  bool is_adjusted, is_masked;
  const device int* ids;
  const device float* bias;
  const device int* counts;
  uint num_ids;
  float repetition, frequency, presence;
  const device uint* mask;
  threadgroup atomic_uint* marks;

  // The logits of tokens i to i + 3, i a multiple of 4; beyond the end -inf, which nothing draws
  // and which comes last by id.
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
    uint low = 0, high = num_ids;  // the first entry that is not below id
    while (low < high) {
      const uint middle = (low + high) / 2;
      if (uint(ids[middle]) < id) low = middle + 1;
      else high = middle;
    }
    if (low == num_ids || uint(ids[low]) != id) return x;
    x += bias[low];
    const int count = counts[low];
    if (count >= 0) x = x > 0.0f ? x / repetition : x * repetition;
    if (count > 0) x -= float(count) * frequency + presence;
    return x;
  }

  // Marks the adjusted ids, in a table where ids 65,536 apart share a bit.
  void mark(Place at) const {
    for (uint i = at.thread_index; i < MARKS; i += THREADS)
      atomic_store_explicit(&marks[i], 0u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = at.thread_index; i < num_ids; i += THREADS) {
      const uint id = uint(ids[i]);
      atomic_fetch_or_explicit(&marks[(id / 32) % MARKS], 1u << (id % 32),
                               memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
};

// ---- the first pass: largest logit and sum of weights

// Of the logits seen so far: the largest, where it first was, and the sum of weights
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

  // The same weights measured from another peak, at least this one.
  float mass_from(float other, float scale) const {
    return mass * exp2((peak - other) * scale);
  }
};

// A row as the draw sees it: with its edits, or raw for the most likely tokens.
template <typename T>
struct Source {
  Row<T> row;
  bool is_raw;
  float peak, scale, mass;  // largest logit, log2(e) / temperature, sum of all weights
  float lane_peak;          // the largest logit that this thread saw
  ulong end;                // keys from here on are out of the question

  ulong key(float x, uint id) const {
    return ulong(as_type<uint>(peak - x)) << 32 | ulong(id);
  }
  float weight(ulong key) const {
    return exp2(-as_type<float>(uint(key >> 32)) * scale);
  }
};

// ---- windows: ranges of keys, sorted

// The tokens with low <= key < high; before them come `rank` tokens of together `mass`.
struct Window {
  ulong low, high;
  uint rank, count;
  float mass;
};

// Where to stop: the first token that is not inside. Every token inside is more likely than
// any outside.
struct Bound {
  uint rank;     // fewer tokens than this before it
  float mass;    // less mass than this before it
  float weight;  // at least this weight

  bool has(uint rank_before, float mass_before, float own_weight) const {
    return rank_before < rank && mass_before < mass && own_weight >= weight;
  }
};

// Fills shared.keys with the tokens of the window and sorts them. Returns how many there are:
// when more than CAPACITY, the keys are of no use.
template <typename T>
METAL_FUNC uint collect(thread const Source<T>& source, ulong low, ulong high,
                        threadgroup Shared& shared, Place at) {
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.thread_index == 0) atomic_store_explicit(&shared.count, 0u, memory_order_relaxed);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint i = 4 * at.thread_index; i < source.row.size; i += 4 * THREADS) {
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
  for (uint i = count + at.thread_index; i < size; i += THREADS) shared.keys[i] = ~0ul;
  for (uint run = 2; run <= size; run *= 2) {
    for (uint step = run / 2; step > 0; step /= 2) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      for (uint i = at.thread_index; i < size / 2; i += THREADS) {
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

// How far below the peak the bound probably ends: judged by the largest logit of each thread,
// which are a sample of the row's largest ones. Never so far that the tokens up to there are
// likely to exceed the window's capacity.
template <typename T>
METAL_FUNC ulong guess_end(thread const Source<T>& source, Bound bound,
                           threadgroup Shared& shared, Place at) {
  if (source.row.size <= CAPACITY) return source.end;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  shared.keys[at.thread_index] = source.key(source.lane_peak, 0);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const uint enough = min(bound.rank, 9 * THREADS / 10);
  // Beyond, weights vanish or are below the bound; a little further, as logarithms round.
  const float least = min(126.0f, 0.01f - log2(bound.weight));
  float near = 0.0f, far = min(least / source.scale, LARGEST);
  for (uint i = 0; i < 14; i++) {
    const float middle = near + (far - near) / 2;
    uint count = 0;
    float mass = 0.0f;
    for (uint j = at.lane; j < THREADS; j += LANES) {
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

// The j-th of PIVOTS + 1 keys from low to high. Evenly spaced by logit in the range where logits
// are; by the bits, thus by magnitude, in the ranges above and below; among as good as equal
// logits by id. Every range gets shorter, also where the device rounds small numbers to zero.
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

// The part of a window in which the bound ends, unsorted: its range of keys is divided until
// what is left fits. Each round reads the row once.
template <typename T>
METAL_FUNC Window narrow(thread const Source<T>& source, Window window, Bound bound,
                         threadgroup Shared& shared, Place at) {
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
    for (uint i = 4 * at.thread_index; i < source.row.size; i += 4 * THREADS) {
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
      if (at.lane == 0) {
        shared.partial[at.group][2 * j] = float(count);  // exact, below 2**24
        shared.partial[at.group][2 * j + 1] = mass;
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
      // The last part that is not empty and begins inside; none if the first token is outside.
      const bool begins_inside = bound.has(rank, mass, source.weight(pivots[j]));
      if (j == 0 || (rank_to > rank && begins_inside))
        next = {pivots[j], pivots[j + 1], rank, rank_to - rank, mass};
      rank = rank_to;
      mass = window.mass + mass_to;
    }
    window = next;
  }
  return window;
}

struct End {
  uint rank;   // how many tokens are inside the bound
  float mass;  // their mass
};

// How much of the sorted window is inside the bound, with all before it.
template <typename T>
METAL_FUNC End measure(thread const Source<T>& source, Window window, Bound bound,
                       threadgroup Shared& shared, Place at) {
  const uint first = SLOTS * at.thread_index;
  float weights[SLOTS];
  float sum = 0.0f;
  for (uint j = 0; j < SLOTS; j++) {
    weights[j] = first + j < window.count ? source.weight(shared.keys[first + j]) : 0.0f;
    sum += weights[j];
  }
  float before = window.mass + group_sum(sum, shared, at).before;
  uint count = 0;
  float mass = 0.0f;
  for (uint j = 0; j < SLOTS; j++) {
    if (first + j < window.count && bound.has(window.rank + first + j, before, weights[j])) {
      count++;
      mass += weights[j];
    }
    before += weights[j];
  }
  const float total = group_sum(mass, shared, at).total;
  const float inside = group_sum(float(count), shared, at).total;
  return {window.rank + uint(inside), window.mass + total};
}

// The row in order of likelihood, seen through a sorted window.
template <typename T>
struct Ranking {
  Window window;  // what shared.keys holds
  Window top;     // the window at the start; empty if more tokens than fit turned up
  float top_mass;

  // Starts with the most likely tokens, up to where the bound probably ends.
  void open(thread const Source<T>& source, Bound bound, threadgroup Shared& shared, Place at) {
    const ulong end = guess_end(source, bound, shared, at);
    const uint count = collect(source, 0, end, shared, at);
    top = {0, count > CAPACITY ? 0 : end, 0, count > CAPACITY ? 0 : count, 0.0f};
    top_mass = measure(source, top, Bound{NEVER, INFINITY, 0.0f}, shared, at).mass;
    window = top;
  }

  // Whether the first token beyond the top, which is at best at its end, may be inside.
  bool is_beyond_top(thread const Source<T>& source, Bound bound) const {
    return top.high < source.end && bound.has(top.count, top_mass, source.weight(top.high));
  }

  // Where the bound ends; moves the window there unless it is there already.
  End seek(thread const Source<T>& source, Bound bound, threadgroup Shared& shared, Place at) {
    const bool is_top = window.low == 0;
    if (is_beyond_top(source, bound)) {
      if (!is_top) {
        const End end = measure(source, window, bound, shared, at);
        const bool ends_here = end.rank < window.rank + window.count || window.high == source.end;
        if (ends_here && end.rank > window.rank) return end;
      }
      const Window rest = {top.high, source.end, top.count, NEVER, top_mass};
      window = narrow(source, rest, bound, shared, at);
      collect(source, window.low, window.high, shared, at);
    } else if (!is_top) {
      window = top;
      collect(source, window.low, window.high, shared, at);
    }
    return measure(source, window, bound, shared, at);
  }
};

// ---- drawing

// A number in [0, 1) from the first word of Philox4x32-10; see philox.py. Not "uniform": Metal has
// a class template of that name, and MLX puts `using namespace metal` before a kernel.
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

// From the most likely tokens: those inside top-k, top-p and min-p.
template <typename T>
METAL_FUNC uint draw_truncated(thread const Source<T>& source, uint top_k, float top_p,
                               float min_p, float number, threadgroup Shared& shared,
                               Place at) {
  // The most likely token is inside, whatever the parameters.
  const float share = top_p < 1.0f ? max(top_p, SMALLEST) : INFINITY;
  Bound bound = {top_k > 0 ? top_k : NEVER, share * source.mass, max(min_p, SMALLEST)};
  Ranking<T> ranking;
  if (top_k > 0 && top_p < 1.0f) {
    const Bound by_rank = {top_k, INFINITY, SMALLEST};
    ranking.open(source, by_rank, shared, at);
    bound.mass = share * ranking.seek(source, by_rank, shared, at).mass;
  } else {
    ranking.open(source, bound, shared, at);
  }
  const End kept = ranking.seek(source, bound, shared, at);
  // The last token with no more than the drawn mass before it: with less than what follows it.
  const float target = as_type<float>(as_type<uint>(max(number * kept.mass, SMALLEST)) + 1);
  const End drawn = ranking.seek(source, Bound{kept.rank, target, 0.0f}, shared, at);
  return uint(shared.keys[drawn.rank - ranking.window.rank - 1]);
}

// From the whole vocabulary: first the SIMD group whose tokens hold the drawn mass, then its
// token. `mass` is that of this thread's tokens.
template <typename T>
METAL_FUNC uint draw_full(thread const Source<T>& source, float mass, float number,
                          threadgroup Shared& shared, Place at) {
  mass = simd_sum(mass);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (at.lane == 0) shared.partial[at.group][0] = mass;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float masses = at.lane < GROUPS ? shared.partial[at.lane][0] : 0.0f;
  const float up_to = simd_prefix_inclusive_sum(masses);
  float left = number * simd_broadcast(up_to, ushort(GROUPS - 1));
  const uint group = simd_sum(at.lane < GROUPS && up_to <= left ? 1u : 0u);
  if (at.group == group) {
    left -= group > 0 ? simd_broadcast(up_to, ushort(group - 1)) : 0.0f;
    uint token = NEVER, last = 0;
    for (uint block = group * BLOCK; block < source.row.size && token == NEVER;
         block += GROUPS * BLOCK) {
      const uint i = block + 4 * at.lane;
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
    // Both sums round: the drawn mass may come out past the end, which the last token takes.
    if (at.lane == 0) shared.token = token == NEVER ? last : token;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return shared.token;
}

// The most likely token, the one of lower id among equals.
template <typename T>
METAL_FUNC uint most_likely(thread const Source<T>& source, uint index,
                            threadgroup Shared& shared, Place at) {
  uint token = NEVER;
  if (source.lane_peak == source.peak && index != NEVER) {
    const float4 x = source.row.read(index, source.is_raw);
    for (uint c = 0; c < 4; c++)
      if (x[c] == source.peak) token = min(token, index + c);
  }
  return group_min(token, shared, at);
}
