// The threads of a threadgroup as fibers: one runs until it has to wait for others.
#include <dlfcn.h>
#include <sys/mman.h>
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
#include "fiber.h"
#include "machine.h"

namespace emulator {

constexpr uint32_t max_threads = 1024;
constexpr size_t stack_size = 128 << 10;
constexpr size_t below_stacks = 1 << 20;  // where an overflow goes until it is noticed

enum State { ready, at_barrier, in_collective, returned };
enum Schedule { in_order, reversed, shuffled };

struct Fiber {
  void* stack_pointer;
  uint32_t thread;
  State state;
  Site site;  // where it waits
};

struct SimdGroup {
  uint32_t size, arrived, round;
  uint32_t epoch[2];
  Site site;
  // Two rounds are enough: nobody ends a round before all have left the one before.
  char values[2][simd_width][16];
};

Now now;
Report* report;
uint64_t steps_left = ~uint64_t(0);  // loading the library runs instrumented code, too

static Launch launch;
static Place group_place;
static Fiber fibers[max_threads];
static SimdGroup simd_groups[max_threads / simd_width];
static std::vector<Fiber*> waiting_to_run;
static Fiber* running;
static void* main_stack_pointer;
static char* stacks;
static uint32_t finished, arrived;  // of the threadgroup; arrived at `barrier_site`
static Site barrier_site;
static uint64_t random_state;

static void write_fault(const char* format, va_list arguments) {
  constexpr int most = sizeof report->fault - 64;
  int length = std::min(vsnprintf(report->fault, most, format, arguments), most - 1);
  const Size group = group_place.group_position;
  snprintf(report->fault + length, 64, " [threadgroup (%u, %u, %u)]", group.x, group.y, group.z);
}

static void stop(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write_fault(format, arguments);
  va_end(arguments);
}

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write_fault(format, arguments);
  va_end(arguments);
  void* nobody;
  switch_stack(&nobody, main_stack_pointer);  // for good: a fault ends the launch
  __builtin_unreachable();
}

// ---- scheduling

static void make_ready(Fiber* fiber) {
  fiber->state = ready;
  waiting_to_run.push_back(fiber);
}

// The end of the list runs first, so the group is pushed backwards to run in order.
static void make_ready(uint32_t first, uint32_t count, State state, Fiber* except) {
  for (uint32_t i = 0; i < count; i++) {
    Fiber* fiber = &fibers[first + (launch.schedule == reversed ? i : count - 1 - i)];
    if (fiber != except && fiber->state == state) make_ready(fiber);
  }
}

static void run_next(void** save) {
  if (waiting_to_run.empty()) {
    switch_stack(save, main_stack_pointer);
    return;
  }
  if (launch.schedule == shuffled) {
    random_state ^= random_state << 13, random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    std::swap(waiting_to_run[(random_state >> 32) % waiting_to_run.size()],
              waiting_to_run.back());
  }
  running = waiting_to_run.back();
  waiting_to_run.pop_back();
  now.thread = running->thread;
  now.simd_epoch = simd_groups[running->thread / simd_width].epoch;
  now.stack = stacks + running->thread * stack_size;
  switch_stack(save, running->stack_pointer);
}

static void wait_as(State state, Site site) {
  running->state = state;
  running->site = site;
  run_next(&running->stack_pointer);
}

static void run_thread() {
  kernel();
  running->state = returned;
  finished++;
  run_next(&running->stack_pointer);
  __builtin_unreachable();
}

static void* fresh_stack(uint32_t thread) {
  // Stacks at equal distances would compete for the same lines of the cache.
  return fresh_fiber(stacks + (thread + 1) * stack_size - thread % 16 * 256, run_thread);
}

// ---- synchronisation

static bool same(Site a, Site b) { return a.line == b.line && a.column == b.column; }

void barrier(unsigned flags, Site site) {
  if (arrived > 0 && !same(site, barrier_site))
    fail("divergent barrier: thread %u is at threadgroup_barrier (line %u) while %u others wait "
         "at another (line %u)",
         running->thread, site.line, arrived, barrier_site.line);
  barrier_site = site;
  if (++arrived < group_place.threads) return wait_as(at_barrier, site);
  arrived = 0;
  report->barriers++;
  for (Space space : {device, threadgroup}) now.epoch[space] += orders(flags, space);
  make_ready(0, group_place.threads, at_barrier, running);
}

uint32_t exchange(const void* value, void* lanes, size_t size, Site site) {
  SimdGroup& group = simd_groups[running->thread / simd_width];
  auto& values = group.values[group.round % 2];
  uint32_t lane = running->thread % simd_width;
  if (group.arrived > 0 && !same(group.site, site))
    fail("missing lanes in %s (line %u): lane %u of SIMD group %u is at %s (line %u)",
         group.site.operation, group.site.line, lane, running->thread / simd_width,
         site.operation, site.line);
  group.site = site;
  memcpy(values[lane], value, size);
  if (++group.arrived < group.size) {
    wait_as(in_collective, site);
  } else {
    group.arrived = 0;
    group.round++;
    report->simd_operations++;
    make_ready(running->thread - lane, group.size, in_collective, running);
  }
  for (uint32_t i = 0; i < group.size; i++)
    memcpy(static_cast<char*>(lanes) + i * size, values[i], size);
  return group.size == simd_width ? ~0u : (1u << group.size) - 1;
}

void simd_barrier(unsigned flags, Site site) {
  SimdGroup& group = simd_groups[running->thread / simd_width];
  char nothing = 0, lanes[simd_width];
  exchange(&nothing, lanes, 1, site);
  for (Space space : {device, threadgroup})  // the same for every lane: their round
    if (orders(flags, space)) group.epoch[space] = group.round;
}

uint32_t thread_index() { return running->thread; }

Place place() {
  Place here = group_place;
  const uint32_t thread = running->thread;
  here.position = {thread % here.group.x, thread / here.group.x % here.group.y,
                   thread / here.group.x / here.group.y};
  return here;
}

// ---- a launch

static void explain_who_waits() {
  const uint32_t threads = group_place.threads;
  for (uint32_t i = 0; i < threads; i++) {
    if (fibers[i].state != in_collective) continue;
    uint32_t first = i - i % simd_width;
    for (uint32_t j = first; j < std::min(first + simd_width, threads); j++) {
      const Fiber& other = fibers[j];
      if (other.state == returned)
        return stop("missing lanes in %s (line %u): lane %u of SIMD group %u has returned",
                    fibers[i].site.operation, fibers[i].site.line, j - first, i / simd_width);
      if (other.state == at_barrier)
        return stop("missing lanes in %s (line %u): lane %u of SIMD group %u is at "
                    "threadgroup_barrier (line %u)",
                    fibers[i].site.operation, fibers[i].site.line, j - first, i / simd_width,
                    other.site.line);
    }
  }
  for (uint32_t i = 0; i < threads; i++)
    if (fibers[i].state == at_barrier)
      return stop("divergent barrier: %u of %u threads wait at threadgroup_barrier (line %u), "
                  "%u have returned",
                  arrived, threads, fibers[i].site.line, finished);
}

static bool run_group(Size position) {
  auto clip = [](uint32_t grid, uint32_t group, uint32_t i) {
    return std::min(group, grid - i * group);  // the last group may be smaller
  };
  Place& here = group_place;
  here.group_position = position;
  here.group = {clip(launch.grid.x, launch.group.x, position.x),
                clip(launch.grid.y, launch.group.y, position.y),
                clip(launch.grid.z, launch.group.z, position.z)};
  here.threads = here.group.x * here.group.y * here.group.z;
  finished = arrived = 0;
  steps_left = launch.step_limit;
  waiting_to_run.clear();
  clear_threadgroup_memory();
  for (Space space : {device, threadgroup}) now.first_epoch[space] = ++now.epoch[space];
  for (uint32_t first = 0; first < here.threads; first += simd_width) {
    SimdGroup& group = simd_groups[first / simd_width];
    group.size = std::min(simd_width, here.threads - first);
    group.arrived = 0;
  }
  for (uint32_t i = 0; i < here.threads; i++) fibers[i] = {fresh_stack(i), i, ready, {}};
  make_ready(0, here.threads, ready, nullptr);
  run_next(&main_stack_pointer);
  report->threadgroups++;
  if (!report->fault[0] && finished < here.threads) explain_who_waits();
  return !report->fault[0];
}

static void run_groups() {
  Size& groups = group_place.groups;
  for (uint32_t z = 0; z < groups.z; z++)
    for (uint32_t y = 0; y < groups.y; y++)
      for (uint32_t x = 0; x < groups.x; x++)
        if (!run_group({x, y, z})) return;
}

static bool prepare(const Launch& request) {
  launch = request;
  auto fit = [](uint32_t grid, uint32_t& group) {
    group = std::max(1u, std::min(group, grid));  // as MLX does
    return (grid + group - 1) / group;
  };
  Size &grid = launch.grid, &group = launch.group;
  Size groups = {fit(grid.x, group.x), fit(grid.y, group.y), fit(grid.z, group.z)};
  group_place = {grid, group, groups, group, {}, {}, 0};
  random_state = launch.seed * 2 + 0x9E3779B97F4A7C15;
  uint64_t threads = uint64_t(group.x) * group.y * group.z;
  if (threads > max_threads) {
    stop("%llu threads in a threadgroup, at most %u are allowed",
         static_cast<unsigned long long>(threads), max_threads);
    return false;
  }
  if (!stacks) {
    void* memory = mmap(nullptr, below_stacks + max_threads * stack_size,
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) stacks = static_cast<char*>(memory) + below_stacks;
  }
  now.stack_size = stack_size;
  if (!stacks) stop("no memory for the threads' stacks");
  return stacks;
}

// Apple GPUs flush subnormal floats to zero.
static void flushing_subnormals(void (*run)()) {
#if defined(__x86_64__)
  const uint32_t control = _mm_getcsr();
  _mm_setcsr(control | 0x8040);
  run();
  _mm_setcsr(control);
#else
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("msr fpcr, %0" ::"r"(control | 1 << 24));
  run();
  asm volatile("msr fpcr, %0" ::"r"(control));
#endif
}

extern "C" __attribute__((visibility("default"))) void emulator_run(
    const Launch* request, Buffer* buffers, int count, Report* result) {
  report = result;
  Dl_info library;
  if (dladdr(reinterpret_cast<void*>(emulator_run), &library)) report->base = library.dli_fbase;
  if (!prepare(*request)) return;
  if (!place_buffers(buffers, count, request->poison)) return stop("no memory for the buffers");
  accuracy = request->accuracy;
  flushing_subnormals(run_groups);
  collect_buffers();
}

}  // namespace emulator
