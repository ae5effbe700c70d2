#define _GNU_SOURCE
#include "inside.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define STABLE 1u
/// A host writes a record in less than a microsecond; who meets it odd so often meets it odd for good.
#define ATTEMPTS 100000

uint64_t inside_rdtsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t)high << 32 | low;
}

void inside_cpuid(uint32_t leaf, uint32_t *registers) {
  __cpuid_count(leaf, 0, registers[0], registers[1], registers[2], registers[3]);
}

static uint32_t word(const void *record, int index) {
  return __atomic_load_n((const uint32_t *)record + index, __ATOMIC_RELAXED);
}

/// Whether the version was even, and the same before and after.
static inline int attempt(const void *record, struct inside_reading *reading) {
  uint32_t version = __atomic_load_n((const uint32_t *)record, __ATOMIC_ACQUIRE);
  reading->words[0] = version;
  reading->tsc = inside_rdtsc();
  for (int index = 1; index < 8; index++) reading->words[index] = word(record, index);
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
  return !(version & 1) && word(record, 0) == version;
}

int inside_read(const void *record, struct inside_reading *reading) {
  for (int count = 0; count < ATTEMPTS; count++) {
    if (attempt(record, reading)) return 1;
    __builtin_ia32_pause();
  }
  return 0;
}

uint64_t inside_value(const struct inside_reading *reading) {
  const uint32_t *words = reading->words;
  uint64_t timestamp = words[2] | (uint64_t)words[3] << 32;
  uint64_t time = words[4] | (uint64_t)words[5] << 32;
  int shift = (int8_t)(words[7] & 0xff);
  uint64_t delta = reading->tsc - timestamp;
  if (shift <= -64 || shift >= 64) {
    delta = 0;
  } else {
    delta = shift >= 0 ? delta << shift : delta >> -shift;
  }
  return time + (uint64_t)((unsigned __int128)delta * words[6] >> 32);
}

static int is_stable(const struct inside_reading *reading) {
  return (reading->words[7] >> 8 & STABLE) != 0;
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/// Looks at the time once in so many rounds.
static int is_over(uint64_t round, uint64_t end) { return (round & 1023) == 0 && now() >= end; }

static void note_step(
  struct inside_loop *loop, uint64_t before, uint64_t value, const struct inside_reading *reading) {
  int64_t step = (int64_t)(value - before);
  if (step >= 0) return;
  loop->backwards++;
  if (step < loop->worst) {
    loop->worst = step;
    loop->worst_before = before;
    loop->worst_after = *reading;
  }
}

/// One reading more; returns its value.
static uint64_t note(struct inside_loop *loop, const struct inside_reading *reading) {
  if (loop->reads == 0) loop->first = loop->worst_after = *reading;
  if (loop->reads > 0 && loop->last.words[0] != reading->words[0]) loop->versions++;
  if (!is_stable(reading)) loop->unstable++;
  loop->last = *reading;
  loop->reads++;
  return inside_value(reading);
}

void inside_run_loop(const void *record, uint64_t nanoseconds, struct inside_loop *result) {
  uint64_t end = now() + nanoseconds, last = 0;
  struct inside_reading reading;
  memset(result, 0, sizeof *result);
  result->settled = 1;
  for (uint64_t round = 1; !is_over(round, end); round++) {
    if (!inside_read(record, &reading)) {
      result->settled = 0;
      return;
    }
    int is_first = result->reads == 0;
    uint64_t value = note(result, &reading);
    if (!is_first) note_step(result, last, value, &reading);
    last = value;
  }
}

void inside_run_watch(const void *record, uint64_t nanoseconds, struct inside_watch *result) {
  uint64_t end = now() + nanoseconds;
  struct inside_reading reading;
  memset(result, 0, sizeof *result);
  for (uint64_t round = 1; !is_over(round, end); round++) {
    if (!attempt(record, &reading)) {
      result->odd++;
      continue;
    }
    result->reads++;
    struct inside_stretch *newest =
      result->stretches > 0 ? &result->stretch[result->stretches - 1] : NULL;
    if (newest && newest->first.words[0] == reading.words[0]) {
      newest->last_tsc = reading.tsc;
      newest->reads++;
      if (memcmp(newest->first.words, reading.words, sizeof reading.words) == 0) continue;
      if (result->torn++ == 0) {
        memcpy(result->torn_pair, newest->first.words, sizeof reading.words);
        memcpy(result->torn_pair + 8, reading.words, sizeof reading.words);
      }
      continue;
    }
    if (result->stretches == INSIDE_STRETCHES) {
      result->dropped++;
    } else {
      newest = &result->stretch[result->stretches++];
    }
    newest->first = reading;
    newest->last_tsc = reading.tsc;
    newest->reads = 1;
  }
}

void inside_measure(const void *record, uint64_t reads, uint64_t *cycles, uint64_t *bare) {
  struct inside_reading reading;
  volatile uint64_t sink;
  *cycles = *bare = UINT64_MAX;
  for (int round = 0; round < 10; round++) {
    uint64_t start = inside_rdtsc();
    for (uint64_t index = 0; index < reads; index++) {
      attempt(record, &reading);
      sink = inside_value(&reading);
    }
    uint64_t middle = inside_rdtsc();
    for (uint64_t index = 0; index < reads; index++) {
      reading.tsc = inside_rdtsc();
      for (int place = 1; place < 8; place++) reading.words[place] = word(record, place);
      sink = reading.tsc + reading.words[7];
    }
    uint64_t end = inside_rdtsc();
    if (middle - start < *cycles) *cycles = middle - start;
    if (end - middle < *bare) *bare = end - middle;
  }
  (void)sink;
}

struct inside_race {
  /// The largest reading so far and its TSC. The TSC is only shown to people: it is stored beside the value, not with it.
  _Alignas(64) uint64_t maximum;
  uint64_t maximum_tsc;
  _Alignas(64) uint32_t present;
  uint32_t racers;
};

struct inside_race *inside_race_make(uint32_t racers) {
  struct inside_race *race = aligned_alloc(64, sizeof *race);
  if (!race) return NULL;
  memset(race, 0, sizeof *race);
  race->racers = racers;
  return race;
}

void inside_race_free(struct inside_race *race) { free(race); }

void inside_run_race(
  struct inside_race *race, const void *record, uint64_t nanoseconds, struct inside_part *part) {
  uint64_t mine = 0, patience = now() + 1000000000;
  struct inside_reading reading;
  struct inside_loop *loop = &part->loop;
  memset(&reading, 0, sizeof reading);
  memset(part, 0, sizeof *part);
  loop->settled = 1;
  __atomic_add_fetch(&race->present, 1, __ATOMIC_ACQ_REL);
  // A racer whose thread did not start keeps nobody waiting for good.
  while (__atomic_load_n(&race->present, __ATOMIC_ACQUIRE) < race->racers && now() < patience) {
  }
  uint64_t end = now() + nanoseconds;
  for (uint64_t round = 1; !is_over(round, end); round++) {
    uint64_t maximum = __atomic_load_n(&race->maximum, __ATOMIC_ACQUIRE);
    uint64_t maximum_tsc = __atomic_load_n(&race->maximum_tsc, __ATOMIC_RELAXED);
    uint64_t value;
    if (record) {
      // RDTSC stands behind a fence: it comes after the maximum was loaded.
      if (!inside_read(record, &reading)) {
        loop->settled = 0;
        return;
      }
      value = note(loop, &reading);
    } else {
      value = reading.tsc = inside_rdtsc();
      if (loop->reads++ == 0) loop->first = reading;
      loop->last = reading;
    }
    if (maximum != 0 && maximum != mine) part->foreign++;
    if (maximum != 0) {
      int64_t worst = loop->worst;
      note_step(loop, maximum, value, &reading);
      if (loop->worst != worst) part->worst_before_tsc = maximum_tsc;
    }
    while ((int64_t)(value - maximum) > 0 || maximum == 0) {
      if (__atomic_compare_exchange_n(
            &race->maximum, &maximum, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        __atomic_store_n(&race->maximum_tsc, reading.tsc, __ATOMIC_RELAXED);
        mine = value;
        break;
      }
    }
  }
}

int inside_pin(int cpu) {
  cpu_set_t set;
  if (cpu < 0 || cpu >= CPU_SETSIZE) return EINVAL;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : errno;
}

int inside_cpus(int *cpus, int count) {
  cpu_set_t set;
  int found = 0;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && found < count; cpu++) {
    if (CPU_ISSET(cpu, &set)) cpus[found++] = cpu;
  }
  return found;
}

int inside_pipe(int *ends) { return pipe2(ends, O_CLOEXEC | O_NONBLOCK); }

const void *inside_map(const char *path) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return NULL;
  // Beyond a file's end a page is SIGBUS.
  int is_long = lseek(file, 0, SEEK_END) >= 32;
  void *page = is_long ? mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  return page == MAP_FAILED ? NULL : page;
}

int inside_spawn(const char *command, const char *const *variables, uint32_t count) {
  extern char **environ;
  uint32_t inherited = 0;
  while (environ[inherited]) inherited++;
  char **environment = calloc(inherited + count + 1, sizeof *environment);
  if (!environment) return -ENOMEM;
  memcpy(environment, variables, count * sizeof *environment);
  memcpy(environment + count, environ, inherited * sizeof *environment);
  // The signals that end this program are blocked in it.
  posix_spawnattr_t attributes;
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  char *arguments[] = {"sh", "-c", (char *)command, NULL};
  pid_t process = 0;
  int error = posix_spawn(&process, "/bin/sh", NULL, &attributes, arguments, environment);
  posix_spawnattr_destroy(&attributes);
  free(environment);
  return error ? -error : process;
}
