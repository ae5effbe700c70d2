#ifndef KVMCLOCK_INSIDE_H
#define KVMCLOCK_INSIDE_H

// What Swift can't do by itself: read a record that another CPU may be writing, in loops as tight as a guest's vDSO.
// Nothing here writes an MSR, and nothing writes to a record.

#include <stdint.h>

/// A record as it lay in memory, and the TSC between the two reads of its version.
struct inside_reading {
  uint32_t words[8];
  uint64_t tsc;
};

/// A loop on one CPU.
struct inside_loop {
  uint64_t reads, backwards, unstable, versions, worst_before;
  int64_t worst;
  struct inside_reading first, last, worst_after;
  /// 0 where the version stayed odd, or changed each time, until the reader gave up.
  int32_t settled;
};

/// One CPU's part in a race.
struct inside_part {
  struct inside_loop loop;
  uint64_t foreign, worst_before_tsc;
};

/// The readings of one version.
struct inside_stretch {
  struct inside_reading first;
  uint64_t last_tsc, reads;
};

#define INSIDE_STRETCHES 256

struct inside_watch {
  uint64_t reads, odd, torn, dropped;
  uint32_t torn_pair[16];
  uint32_t stretches;
  struct inside_stretch stretch[INSIDE_STRETCHES];
};

/// What racers share; zeroed before the race.
struct inside_race;

uint64_t inside_rdtsc(void);
void inside_cpuid(uint32_t leaf, uint32_t *registers);

/// Reads a record under the version protocol; returns 1 where the version was even, and the same before and after.
int inside_read(const void *record, struct inside_reading *reading);

/// The clock's value in nanoseconds, modulo 2^64.
uint64_t inside_value(const struct inside_reading *reading);

/// Read without pause for so many nanoseconds of CLOCK_MONOTONIC.
void inside_run_loop(const void *record, uint64_t nanoseconds, struct inside_loop *result);
void inside_run_watch(const void *record, uint64_t nanoseconds, struct inside_watch *result);

/// The least TSC cycles of so many readings, and of RDTSC and the loads alone.
void inside_measure(const void *record, uint64_t reads, uint64_t *cycles, uint64_t *bare);

struct inside_race *inside_race_make(uint32_t racers);
void inside_race_free(struct inside_race *race);

/// Waits for the other racers, then races until the time is over. Without a record the TSC itself is raced.
void inside_run_race(
  struct inside_race *race, const void *record, uint64_t nanoseconds, struct inside_part *part);

/// Binds the thread to one CPU; returns 0 or an errno.
int inside_pin(int cpu);
/// The CPUs that the thread may use, up to `count`; returns how many.
int inside_cpus(int *cpus, int count);

/// A pipe that blocks nobody and that no other program inherits; returns 0 or -1.
int inside_pipe(int *ends);

/// A file's first page, mapped to be read; NULL if it can't be. For records made by hand.
const void *inside_map(const char *path);

/// Starts `/bin/sh -c command` with these environment variables ("NAME=value") added; returns the process or a negative errno.
int inside_spawn(const char *command, const char *const *variables, uint32_t count);

#endif
